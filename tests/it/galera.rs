//! A node of a Galera cluster: reads are fresh on every node, and a node without its cluster is no reason for a 500.

use std::path::Path;

use mysql::prelude::Queryable;

use crate::support::service::{program, reach};
use crate::support::{Database, Service, eventually, free_port};

const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";

#[test]
fn a_galera_node_is_read_with_its_cluster_and_503_without_it() {
    if !Path::new(PROVIDER).exists() {
        assert!(std::env::var_os("CI").is_none(), "{PROVIDER} is missing: install galera-4");
        println!("skipped: {PROVIDER} is missing; install galera-4 to run this test");
        return;
    }
    let port = free_port();
    let database = Database::private_with(&format!(
        "--wsrep-on=ON --wsrep-provider={PROVIDER} --wsrep-cluster-address=gcomm:// --wsrep-node-address=127.0.0.1 \
         --wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:{port} --binlog-format=ROW \
         --innodb-autoinc-lock-mode=2 --general-log=1 --log-output=TABLE"
    ));
    let schema = database.schema();
    let service = Service::start(&schema, &[]);
    service.wait_until_ready();
    assert_eq!(service.submit("before", &[]).status, 200);
    assert_eq!(service.get("/messages").messages(), ["before"]);
    let waits = "SELECT COUNT(*) FROM mysql.general_log WHERE argument = 'SET SESSION wsrep_sync_wait = 1' LIMIT 1";
    assert!(schema.rows::<u64>(waits)[0] >= 1, "reads wait for what other nodes have committed");

    let mut admin = database.connect();
    admin.query_drop("SET GLOBAL wsrep_reject_queries = ALL").unwrap();
    eventually("the node is not ready", || {
        let ready = service.get("/readyz");
        (ready.status, ready.text()) == (503, "not ready: this node has lost its cluster\n")
    });
    for path in ["/", "/messages", "/messages/1"] {
        assert_eq!(service.get(path).status, 503, "{path}");
    }
    assert_eq!(service.submit("meanwhile", &[]).status, 503);
    let variables = reach(&schema);
    let variables: Vec<(&str, &str)> = variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let check = program(&variables).arg("check").output().unwrap();
    let words = String::from_utf8(check.stdout).unwrap();
    assert!(!check.status.success() && words.contains("this node has lost its cluster"), "{words}");

    admin.query_drop("SET GLOBAL wsrep_reject_queries = NONE").unwrap();
    eventually("the node is ready", || service.get("/readyz").text() == "ready\n");
    assert_eq!(service.submit("after", &[]).status, 200);
    assert_eq!(service.get("/messages").messages(), ["after", "before"]);
}
