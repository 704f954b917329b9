//! Asks the bridge of this configuration over HTTP, when only its process has the answer (embedded clusters). One plain
//! request; a client library would be a lot of machinery for it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use serde_json::Value;

use crate::config::Config;

const TIMEOUT: Duration = Duration::from_secs(3);
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Where the bridge of this configuration answers: what it wrote down while it runs, else `admin.listen`.
pub fn address(config: &Config) -> SocketAddr {
    // One region's bridge keeps its state in a folder of its own, one of all regions does not.
    let folders = std::iter::once(config.state_dir.clone())
        .chain(config.clusters.keys().map(|region| config.state_dir.join(region.as_str())));
    let noted = folders.map(|folder| folder.join("admin.addr")).find_map(|file| std::fs::read_to_string(file).ok());
    let mut address = noted.and_then(|text| text.trim().parse().ok()).unwrap_or(config.admin.listen);
    if address.ip().is_unspecified() {
        let here = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { IpAddr::from(Ipv6Addr::LOCALHOST) };
        address.set_ip(here);
    }
    address
}

/// What a bridge answered.
pub struct Answer {
    /// The status of HTTP.
    pub code: u16,
    /// All of it.
    pub body: Vec<u8>,
}

/// Reads `path`.
pub fn get(from: SocketAddr, path: &str, token: Option<&SecretString>) -> io::Result<Answer> {
    ask(from, &format!("GET {path}"), None, token)
}

/// Posts JSON to `path`.
pub fn post(from: SocketAddr, path: &str, body: &Value, token: Option<&SecretString>) -> io::Result<Answer> {
    ask(from, &format!("POST {path}"), Some(&body.to_string()), token)
}

fn ask(from: SocketAddr, what: &str, body: Option<&str>, token: Option<&SecretString>) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&from, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let token = token.map(|token| format!("Authorization: Bearer {}\r\n", token.expose_secret())).unwrap_or_default();
    // HTTP/1.0: the answer comes whole and ends with the connection.
    let kind = "Content-Type: application/json\r\nContent-Length: ";
    let length = body.map(|body| format!("{kind}{}\r\n", body.len())).unwrap_or_default();
    let body = body.unwrap_or_default();
    stream.write_all(format!("{what} HTTP/1.0\r\nHost: {from}\r\n{token}{length}\r\n{body}").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "no answer that a bridge would give");
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or_else(wrong)?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let code = head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    let code = code.ok_or_else(wrong)?;
    Ok(Answer { code, body: answer.split_off(end + 4) })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn answered(answer: &'static str) -> io::Result<(u16, Vec<u8>)> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let (mut stream, _) = listener.accept().expect("a client");
                let mut request = [0; 512];
                let length = stream.read(&mut request).expect("a request");
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                assert!(request.starts_with("GET /x HTTP/1.0\r\n"), "{request}");
                assert!(request.contains("\r\nAuthorization: Bearer t\r\n"), "{request}");
                stream.write_all(answer.as_bytes()).expect("answered");
            });
            let answer = get(address, "/x", Some(&SecretString::from("t")))?;
            Ok((answer.code, answer.body))
        })
    }

    #[test]
    fn what_is_no_http_is_no_answer() {
        assert_eq!(answered("HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}").expect("HTTP"), (200, b"{}".to_vec()));
        assert_eq!(answered("HTTP/1.0 401 Unauthorized\r\n\r\n{}").expect("HTTP").0, 401);
        assert!(answered("SSH-2.0-x\r\n").is_err());
    }
}
