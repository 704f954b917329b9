//! The composition root: the only file that names the drivers.

use std::collections::BTreeMap;

use crate::broker::{Class, Error, SharedCluster};
use crate::config::{Cluster, Config};
use crate::model::names::RegionName;
use crate::policy::topics;

/// Opens a region's cluster. Returns at once where the driver connects in the background.
pub fn open(region: &RegionName, cluster: &Cluster) -> Result<SharedCluster, Error> {
    let driver = match cluster {
        Cluster::Kafka(_) => "kafka",
        Cluster::RocketMq(_) => "rocketmq",
        Cluster::Embedded { .. } => "embedded",
    };
    Err(Error::new(Class::Fatal, format!("open the cluster of {region}"), format!("no {driver} driver yet")))
}

/// Opens the clusters of all regions.
pub fn connect(config: &Config) -> Result<BTreeMap<RegionName, SharedCluster>, Error> {
    config.clusters.iter().map(|(region, cluster)| Ok((region.clone(), open(region, cluster)?))).collect()
}

/// What the configuration says of topics that are created in each region.
pub fn topic_settings(config: &Config) -> BTreeMap<RegionName, topics::Settings> {
    let settings = |cluster: &Cluster| match cluster {
        Cluster::Kafka(kafka) => {
            topics::Settings { replication_factor: kafka.replication_factor, config: kafka.topic_config.clone() }
        }
        Cluster::RocketMq(_) | Cluster::Embedded { .. } => topics::Settings::default(),
    };
    config.clusters.iter().map(|(region, cluster)| (region.clone(), settings(cluster))).collect()
}
