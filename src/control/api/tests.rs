//! The endpoint as clients meet it: a real server on a free port, a real client.

use std::sync::Mutex;

use super::*;

#[derive(Default)]
struct Bridge {
    reasons: Mutex<Vec<String>>,
    paused: Mutex<Vec<(PauseRequest, bool)>>,
}

impl Endpoint for Bridge {
    fn not_ready(&self) -> Vec<String> {
        self.reasons.lock().expect("not poisoned").clone()
    }

    fn metrics(&self) -> String {
        "longshore_build_info 1\n".to_owned()
    }

    fn status(&self) -> Value {
        json!({"regions": {"hz": {"reachable": true}}})
    }

    fn plan(&self) -> Value {
        json!({"copies": []})
    }

    fn set_paused(&self, what: &PauseRequest, paused: bool) -> Result<(), String> {
        if what.to == "nowhere" {
            return Err("no region `nowhere`".to_owned());
        }
        self.paused.lock().expect("not poisoned").push((what.clone(), paused));
        Ok(())
    }
}

struct Client {
    agent: ureq::Agent,
    base: String,
    headers: Vec<(&'static str, String)>,
}

impl Client {
    fn to(served: &Served) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(10)))
            .build()
            .into();
        Self { agent, base: format!("http://127.0.0.1:{}", served.address().port()), headers: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let mut answer = request.call().expect("an answer");
        (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
    }

    fn post(&self, path: &str, body: &Value) -> (u16, String) {
        let mut request = self.agent.post(format!("{}{path}", self.base));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let mut answer = request.send_json(body).expect("an answer");
        (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
    }
}

fn start(listen: &str, token: Option<&str>) -> (Arc<Bridge>, Served) {
    let bridge = Arc::new(Bridge::default());
    let admin = Admin { listen: listen.to_owned(), token: token.map(SecretString::from) };
    let served = serve(&admin, Arc::clone(&bridge) as Arc<dyn Endpoint>).expect("listens");
    (bridge, served)
}

#[test]
fn on_loopback_everything_can_be_read_without_a_token() {
    let (bridge, served) = start("127.0.0.1:0", None);
    let client = Client::to(&served);
    assert_eq!(client.get("/livez").0, 200);
    assert_eq!(client.get("/readyz"), (200, r#"{"ready":true,"reasons":[]}"#.to_owned()));
    bridge.reasons.lock().expect("not poisoned").push("hz is unreachable".to_owned());
    assert_eq!(client.get("/readyz"), (503, r#"{"ready":false,"reasons":["hz is unreachable"]}"#.to_owned()));
    assert_eq!(client.get("/metrics"), (200, "longshore_build_info 1\n".to_owned()));
    assert_eq!(client.get("/api/v1/status"), (200, r#"{"regions":{"hz":{"reachable":true}}}"#.to_owned()));
    assert_eq!(client.get("/api/v1/plan"), (200, r#"{"copies":[]}"#.to_owned()));
    for (path, text) in [("/", "<title>Longshore"), ("/console.js", "/api/v1/status"), ("/console.css", "body")] {
        let (code, body) = client.get(path);
        assert!(code == 200 && body.contains(text), "{path}: {code}");
    }
    assert_eq!(client.get("/nothing").0, 404);
    served.stop();
}

#[test]
fn changing_something_needs_the_token_even_on_loopback() {
    let what = json!({"from": "hz", "to": "sh", "topic": "orders"});
    let (_, served) = start("127.0.0.1:0", None);
    assert_eq!(Client::to(&served).post("/api/v1/links/pause", &what).0, 403, "no token is configured");
    served.stop();

    let (bridge, served) = start("127.0.0.1:0", Some("s3cret"));
    assert_eq!(Client::to(&served).post("/api/v1/links/pause", &what).0, 401);
    let wrong = Client::to(&served).with("authorization", "Bearer s3cre");
    assert_eq!(wrong.post("/api/v1/links/pause", &what).0, 401);
    assert!(bridge.paused.lock().expect("not poisoned").is_empty());
    let right = Client::to(&served).with("authorization", "Bearer s3cret");
    assert_eq!(right.post("/api/v1/links/pause", &what), (200, r#"{"paused":true}"#.to_owned()));
    assert_eq!(right.post("/api/v1/links/resume", &what).0, 200);
    let (code, body) = right.post("/api/v1/links/pause", &json!({"from": "hz", "to": "nowhere"}));
    assert!(code == 422 && body.contains("no region `nowhere`"), "{code} {body}");
    assert_eq!(right.post("/api/v1/links/pause", &json!({"from": "hz", "too": "sh"})).0, 422, "unknown field");
    let done: Vec<bool> = bridge.paused.lock().expect("not poisoned").iter().map(|(_, paused)| *paused).collect();
    assert_eq!(done, [true, false]);
    served.stop();
}

#[test]
fn off_loopback_reading_needs_the_token_and_probes_learn_no_reasons() {
    let (bridge, served) = start("0.0.0.0:0", Some("s3cret"));
    bridge.reasons.lock().expect("not poisoned").push("hz is unreachable".to_owned());
    let client = Client::to(&served);
    for path in ["/metrics", "/api/v1/status", "/api/v1/plan"] {
        assert_eq!(client.get(path).0, 401, "{path}");
    }
    assert_eq!(client.get("/livez").0, 200);
    assert_eq!(client.get("/readyz"), (503, r#"{"ready":false}"#.to_owned()));
    let knowing = Client::to(&served).with("authorization", "Bearer s3cret");
    assert_eq!(knowing.get("/metrics").0, 200);
    assert!(knowing.get("/readyz").1.contains("unreachable"));
    served.stop();
}

#[test]
fn off_loopback_without_a_token_is_refused() {
    let admin = Admin { listen: "0.0.0.0:0".to_owned(), token: None };
    let refused = serve(&admin, Arc::new(Bridge::default())).err().expect("refused");
    assert!(refused.to_string().contains("set admin.token"), "{refused}");
}

#[test]
fn a_name_that_was_pointed_at_loopback_is_turned_away() {
    let (_, served) = start("127.0.0.1:0", None);
    assert_eq!(Client::to(&served).with("host", "evil.example").get("/api/v1/status").0, 421);
    assert_eq!(Client::to(&served).with("host", "localhost:9464").get("/api/v1/status").0, 200);
    assert_eq!(Client::to(&served).with("host", "[::1]:9464").get("/livez").0, 200);
    served.stop();
}

#[test]
fn an_address_in_use_is_told_with_its_setting() {
    let (_, served) = start("127.0.0.1:0", None);
    let admin = Admin { listen: served.address().to_string(), token: None };
    let refused = serve(&admin, Arc::new(Bridge::default())).err().expect("refused").to_string();
    assert!(refused.starts_with("listen on admin.listen 127.0.0.1:"), "{refused}");
    served.stop();
}
