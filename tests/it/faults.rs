//! Faults of the database under load: the statuses that readers and writers get, how soon, and the recovery. The table of
//! faults in docs/reliability.md lists what is tested here.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use socket2::{Domain, Socket, Type};

use crate::support::clients::{Role, Seen, through};
use crate::support::service::program;
use crate::support::service::reach;
use crate::support::{Board, Database, Proxy, Schema, Service, Signal, eventually};

const SECOND: Duration = Duration::from_secs(1);
const PASSWORD: &str = "of a plain user";

/// A user with all privileges in the schema, and none of those that exempt an administrator from limits.
fn plain_user(schema: &Schema) -> String {
    let user = format!("u_{}", schema.name);
    schema.run(&format!("CREATE USER {user}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'"));
    schema.run(&format!("GRANT ALL ON {}.* TO {user}@'127.0.0.1'", schema.name));
    user
}

fn start(schema: &Schema, settings: &[(&str, &str)]) -> Service {
    let service = Service::start(schema, &[&[("DB_TIMEOUT", "1s")], settings].concat());
    service.wait_until_ready();
    service
}

#[track_caller]
fn assert_statuses(seen: &Seen, readers: &[u16], writers: &[u16]) {
    let statuses = |role| seen.statuses(role).into_iter().collect::<Vec<_>>();
    assert_eq!(
        (statuses(Role::Reader), statuses(Role::Writer)),
        (readers.to_vec(), writers.to_vec()),
        "readers, writers"
    );
}

/// Kills all sessions of a user.
fn kill_sessions(admin: &mut Conn, user: &str) {
    let sessions = "SELECT id FROM information_schema.processlist WHERE user = ?";
    for id in admin.exec::<u64, _, _>(sessions, (user,)).unwrap() {
        // It may have ended by itself.
        let _ = admin.query_drop(format!("KILL {id}"));
    }
}

/// Sessions of a user, as many as the server gives.
fn connect_all(database: &Database, user: &str) -> Vec<Conn> {
    let connect = || {
        let address = OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(database.port());
        Conn::new(address.user(Some(user)).pass(Some(PASSWORD)).prefer_socket(false)).ok()
    };
    std::iter::from_fn(connect).collect()
}

#[test]
fn a_killed_database_means_503_immediately_and_service_after_its_restart() {
    let database = Database::private();
    let schema = database.schema();
    let service = start(&schema, &[]);
    let kill = || {
        database.signal(Signal::KILL);
        eventually("it is dead", || database.try_connect().is_err());
    };
    let seen = through(&service, SECOND, kill, |()| database.start());
    seen.check("killed", SECOND);
    assert_statuses(&seen, &[503], &[503]);
    seen.check_stored(&schema);
}

#[test]
fn a_clean_restart_of_the_database_means_503_immediately_and_service_after_it() {
    let database = Database::private();
    let schema = database.schema();
    let service = start(&schema, &[]);
    let seen = through(&service, SECOND, || database.stop(), |()| database.start());
    seen.check("restarted", SECOND);
    assert_statuses(&seen, &[503], &[503]);
    seen.check_stored(&schema);
}

#[test]
fn a_suspended_database_means_503_within_the_time_out_and_service_after_it_continues() {
    let database = Database::private();
    let schema = database.schema();
    let service = start(&schema, &[]);
    let greets = || {
        let mut socket = TcpStream::connect(("127.0.0.1", database.port())).unwrap();
        socket.set_read_timeout(Some(SECOND / 4)).unwrap();
        socket.read(&mut [0]).is_ok()
    };
    let stop = || {
        database.signal(Signal::STOP);
        eventually("it hangs", || !greets());
    };
    let seen = through(&service, 4 * SECOND, stop, |()| database.signal(Signal::CONT));
    seen.check("stopped", SECOND);
    assert_statuses(&seen, &[503], &[503]);
    seen.check_stored(&schema);
}

#[test]
fn without_a_connection_left_the_open_ones_serve_and_requests_for_a_new_one_are_503_immediately() {
    let database = Database::private();
    let schema = database.schema();
    let user = plain_user(&schema);
    let service = start(&schema, &[("MYSQL_USER", &user), ("MYSQL_PASSWORD", PASSWORD)]);
    let hog = plain_user(&database.schema());
    let mut admin = database.connect();
    admin.query_drop("SET GLOBAL max_connections = 12").unwrap();
    let use_up = || {
        let mut hogs = connect_all(&database, &hog);
        assert_eq!(service.submit("over a session that is there", &[]).status, 200);
        assert_eq!(service.get("/messages").status, 200);
        eventually("the service has no session left", || {
            kill_sessions(&mut admin, &user);
            hogs.extend(connect_all(&database, &hog));
            // A login in progress counts: the server has accepted its connection already.
            let sessions =
                "SELECT COUNT(*) FROM information_schema.processlist WHERE user IN (?, 'unauthenticated user')";
            let mut none_left = || admin.exec_first::<u64, _, _>(sessions, (&user,)).unwrap() == Some(0);
            none_left() && connect_all(&database, &hog).is_empty() && none_left()
        });
        hogs
    };
    let seen = through(&service, SECOND, use_up, drop);
    seen.check("no connection left", SECOND);
    assert_statuses(&seen, &[503], &[503]);
    seen.check_stored(&schema);
}

#[test]
fn a_read_only_database_is_read_and_writes_are_503_immediately() {
    let database = Database::private();
    let schema = database.schema();
    let user = plain_user(&schema);
    let service = start(&schema, &[("MYSQL_USER", &user), ("MYSQL_PASSWORD", PASSWORD)]);
    let set = |value: u8| database.connect().query_drop(format!("SET GLOBAL read_only = {value}")).unwrap();
    let seen = through(&service, SECOND, || set(1), |()| set(0));
    seen.check("read-only", SECOND);
    assert_statuses(&seen, &[200], &[503]);
    seen.check_stored(&schema);
}

#[test]
fn a_deadlock_costs_a_writer_another_attempt_and_nothing_else() {
    let board = Board::start();
    let key = "0190163d-8694-739b-aea5-966c26f8ad90";
    board.submit("before");
    let mut other = board.schema.connect();
    for statement in [
        "CREATE TABLE heavy (n INT PRIMARY KEY) ENGINE=InnoDB",
        "BEGIN",
        // The server rolls back the smaller transaction.
        "INSERT INTO heavy SELECT seq FROM seq_1_to_1000",
    ] {
        other.query_drop(statement).unwrap();
    }
    let bytes = key.replace('-', "");
    other.query_drop(format!("INSERT INTO messages (message, submit_key) VALUES ('theirs', X'{bytes}')")).unwrap();
    thread::scope(|scope| {
        let ours = scope.spawn(|| board.service.json("POST", "/messages", &[("Idempotency-Key", key)], "ours"));
        eventually("ours waits for theirs", || {
            // The server caches this list for a while, and renews it only when it is not read all the time.
            board.schema.run("DO SLEEP(0.2)");
            let waiting: Vec<u64> = board.schema.rows(
                "SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p \
                 ON p.id = t.trx_mysql_thread_id WHERE t.trx_state = 'LOCK WAIT' AND p.db = DATABASE()",
            );
            waiting == [1]
        });
        // Waits for the row that this service has inserted and not committed.
        other.query_drop("SELECT message FROM messages FOR UPDATE").unwrap();
        assert_eq!(board.get("/messages").messages(), ["before"], "readers do not wait, and see what is committed");
        other.query_drop("ROLLBACK").unwrap();
        let answer = ours.join().unwrap();
        assert_eq!((answer.status, answer.json()["message"].as_str()), (201, Some("ours")));
    });
    let metrics = board.get("/metrics");
    let metrics = metrics.text();
    assert!(metrics.contains(r#"twotier_database_retries_total{cause="conflict"} "#), "{metrics}");
    assert_eq!(board.get("/messages").messages(), ["ours", "before"]);
}

#[test]
fn while_another_session_locks_all_rows_reads_continue_and_writes_are_503_within_the_time_out() {
    let schema = Database::shared().schema();
    // Long enough for a lock wait to time out and to be repeated.
    let service = start(&schema, &[("DB_TIMEOUT", "2s")]);
    let hold = || {
        let mut holder = schema.connect();
        holder.query_drop("BEGIN").unwrap();
        holder.query_drop("SELECT message FROM messages FOR UPDATE").unwrap();
        holder
    };
    let seen = through(&service, 5 * SECOND, hold, drop);
    seen.check("rows held", 2 * SECOND);
    assert_statuses(&seen, &[200], &[503]);
    seen.check_stored(&schema);
    eventually("the lock wait is logged", || service.log().contains("(1205)"));
}

#[test]
fn while_another_session_locks_the_table_all_requests_are_503_within_the_time_out() {
    let schema = Database::shared().schema();
    let service = start(&schema, &[]);
    let hold = || {
        let mut holder = schema.connect();
        holder.query_drop("LOCK TABLES messages WRITE").unwrap();
        holder
    };
    let seen = through(&service, 3 * SECOND, hold, drop);
    seen.check("table held", SECOND);
    assert_statuses(&seen, &[503], &[503]);
    seen.check_stored(&schema);
}

#[test]
fn after_a_change_of_the_password_the_open_connections_serve_and_requests_for_a_new_one_are_503_immediately() {
    let schema = Database::shared().schema();
    let user = plain_user(&schema);
    let service = start(&schema, &[("MYSQL_USER", &user), ("MYSQL_PASSWORD", PASSWORD)]);
    let mut admin = schema.connect();
    let set = |password: &str| schema.run(&format!("ALTER USER {user}@'127.0.0.1' IDENTIFIED BY '{password}'"));
    let change = || {
        set("another");
        assert_eq!(service.submit("over a session that is there", &[]).status, 200);
        assert_eq!(service.get("/messages").status, 200);
        kill_sessions(&mut admin, &user);
    };
    let seen = through(&service, SECOND, change, |()| set(PASSWORD));
    seen.check("password changed", SECOND);
    assert_statuses(&seen, &[503], &[503]);
    seen.check_stored(&schema);
    assert!(service.log().contains("check MYSQL_USER and MYSQL_PASSWORD"), "{}", service.log());
    schema.run(&format!("DROP USER {user}@'127.0.0.1'"));
}

#[test]
fn without_its_table_it_is_500_until_the_table_is_there_again() {
    let schema = Database::shared().schema();
    let service = start(&schema, &[]);
    let table = include_str!("../../message.sql");
    let statements = || table.split(";\n").filter(|statement| statement.contains("CREATE"));
    assert_eq!(statements().count(), 1);
    let seen = through(
        &service,
        SECOND,
        || schema.run("DROP TABLE messages"),
        |()| statements().for_each(|statement| schema.run(statement)),
    );
    seen.check("table dropped", SECOND);
    assert_statuses(&seen, &[500], &[500]);
    assert!(seen.statuses(Role::Ready).contains(&503), "it is not ready, once the last good look is a second old");
}

/// A service with two hosts, both of which are the same database.
struct TwoHosts {
    service: Service,
    a: Proxy,
    b: Proxy,
    schema: Schema,
}

impl TwoHosts {
    fn start(prepare: impl FnOnce(&Proxy, &Proxy)) -> TwoHosts {
        TwoHosts::with(&[], prepare)
    }

    fn with(settings: &[(&str, &str)], prepare: impl FnOnce(&Proxy, &Proxy)) -> TwoHosts {
        let schema = Database::shared().schema();
        let (a, b) = (Proxy::start(&schema.database), Proxy::start(&schema.database));
        prepare(&a, &b);
        let hosts = format!("127.0.0.1:{},127.0.0.1:{}", a.port(), b.port());
        let service = start(&schema, &[&[("MYSQL_HOST", hosts.as_str())], settings].concat());
        TwoHosts { service, a, b, schema }
    }
}

#[test]
fn of_two_hosts_either_may_be_down_without_an_effect_on_requests() {
    let hosts = TwoHosts::start(|_, _| ());
    let (a, b) = (&hosts.a, &hosts.b);
    for (what, dies) in [("the second is dead", b), ("the first is dead", a), ("the second is dead after it", b)] {
        let seen = through(&hosts.service, SECOND, || dies.close(), |()| dies.open());
        seen.check(what, SECOND);
        assert_statuses(&seen, &[200], &[200, 201]);
        seen.check_stored(&hosts.schema);
    }
}

#[test]
fn a_host_that_hangs_costs_one_time_out_and_the_other_takes_over() {
    let hosts = TwoHosts::start(|_, _| ());
    // The fault does not end: from now on the other host serves.
    let seen = through(&hosts.service, Duration::ZERO, || hosts.a.silence(), |()| ());
    seen.check("the first hangs", SECOND);
    seen.check_stored(&hosts.schema);
    assert!(seen.any_client_got(503), "it did hang");
    hosts.a.speak();
}

#[test]
fn a_host_that_hangs_keeps_no_slot_from_requests_that_the_other_host_can_answer() {
    let timeout = 2 * SECOND;
    let hosts = TwoHosts::with(&[("DB_TIMEOUT", "2s"), ("DB_CONNECTIONS", "3")], |_, _| ());
    let service = &hosts.service;
    let all_slots_have_a_connection = || {
        thread::scope(|scope| {
            scope.spawn(|| service.get("/messages"));
            scope.spawn(|| service.get("/messages/1"));
            service.submit("warm", &[]);
        });
        service.get("/metrics").text().contains("\ntwotier_database_connections 3\n")
    };
    eventually("all slots have a connection", all_slots_have_a_connection);
    hosts.a.silence();
    let since = Instant::now();
    thread::scope(|scope| {
        let first = scope.spawn(|| service.get("/messages/1").status);
        // Its statement ends half a time-out after the first one's, and so does the supervisor's check.
        eventually("half of the time-out has passed", || since.elapsed() > timeout / 2);
        let second = scope.spawn(|| service.submit("second", &[]).status);
        assert_eq!(first.join().unwrap(), 503);
        assert!(since.elapsed() < timeout + SECOND / 2, "{:?}", since.elapsed());
        assert_eq!(service.get("/messages/1").status, 200);
        assert!(since.elapsed() < timeout + SECOND / 2, "the other host serves after {:?}", since.elapsed());
        assert_eq!(second.join().unwrap(), 503);
    });
    hosts.a.speak();
}

#[test]
fn it_starts_with_a_host_that_is_dead_or_hangs() {
    type Prepare = fn(&Proxy, &Proxy);
    let cases: [(&str, Prepare); 4] = [
        ("the first is dead", |a, _| a.close()),
        ("the second is dead", |_, b| b.close()),
        ("the first hangs", |a, _| a.silence()),
        ("the second hangs", |_, b| b.silence()),
    ];
    for (what, prepare) in cases {
        let hosts = TwoHosts::start(prepare);
        assert_eq!(hosts.service.submit("x", &[]).status, 200, "{what}");
        assert_eq!(hosts.service.get("/messages").messages(), ["x"], "{what}");
    }
}

#[test]
fn a_host_that_does_not_even_refuse_has_only_its_share_of_the_time_out() {
    // The kernel drops what a full backlog has no room for, as a firewall does.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let connect = || TcpStream::connect_timeout(&address, SECOND / 5);
    let _held: Vec<_> = std::iter::from_fn(|| connect().ok()).collect();

    let schema = Database::shared().schema();
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", address.port(), schema.database.port());
    let service = Service::start(&schema, &[("MYSQL_HOST", &hosts), ("DB_TIMEOUT", "2s")]);
    service.wait_until_ready();
    assert!(!service.log().contains("attempt="), "the first attempt reaches the second host:\n{}", service.log());
}

#[test]
fn of_the_addresses_of_a_name_any_may_be_dead() {
    let schema = Database::shared().schema();
    let addresses = [Ipv4Addr::new(127, 0, 0, 8), Ipv4Addr::new(127, 0, 0, 9)];
    // The resolver has an order of its own, so the dead one comes first in one of the two rounds.
    for alive in addresses {
        let proxy = Proxy::at(alive, &schema.database);
        let port = proxy.port().to_string();
        let hosts: String = addresses.iter().map(|address| format!("{address} board-db.test\n")).collect();
        let mut variables = reach(&schema);
        variables.extend([("MYSQL_HOST", "board-db.test"), ("MYSQL_PORT", &port)].map(|(n, v)| (n.into(), v.into())));
        let service = Service::run_with_hosts(&hosts, &variables);
        service.wait_until_ready();
        assert_eq!(service.submit("x", &[]).status, 200, "{alive} is alive");
        let seen = through(&service, Duration::ZERO, || proxy.cut(), |()| ());
        seen.check("a name with a dead address", 5 * SECOND);
        assert_statuses(&seen, &[200], &[200, 201]);
    }
}

#[test]
fn a_server_that_takes_no_writes_is_left_for_one_that_does() {
    let schema = Database::shared().schema();
    let (demoted, writer) = (Database::private(), &schema.database);
    let name = &schema.name;
    let user = format!("user_{name}");
    for server in [&demoted, writer] {
        let mut connection = server.connect();
        for statement in [
            format!("CREATE DATABASE IF NOT EXISTS {name}"),
            format!("CREATE USER {user}@'127.0.0.1' IDENTIFIED BY 'b'"),
            format!("GRANT ALL ON {name}.* TO {user}@'127.0.0.1'"),
        ] {
            connection.query_drop(statement).unwrap();
        }
    }
    Service::start(&schema, &[]).wait_until_ready();
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", demoted.port(), writer.port());
    let settings = [("MYSQL_HOST", hosts.as_str()), ("MYSQL_USER", &user), ("MYSQL_PASSWORD", "b")];
    let service = Service::start(&schema, &settings);
    service.wait_until_ready();
    assert_eq!(service.submit("to the first", &[]).status, 200);
    assert_eq!(schema.copies("to the first"), 0);
    // A primary that was demoted: its connections stay, and refuse writes.
    demoted.connect().query_drop("SET GLOBAL read_only = 1").unwrap();
    assert_eq!(service.submit("to the second", &[]).status, 200, "{}", service.log());
    assert_eq!(schema.copies("to the second"), 1);
    for path in ["/messages", "/messages?after=0", "/"] {
        assert!(service.get(path).text().contains("to the second"), "{path} still reads the old primary");
    }
    let variables = [&settings[..], &[("MYSQL_DB", name.as_str())]].concat();
    let check = program(&variables).arg("check").output().unwrap();
    let words = String::from_utf8(check.stdout).unwrap();
    let line = |port: u16| words.lines().find(|line| line.starts_with("host ") && line.contains(&port.to_string()));
    assert!(line(demoted.port()).is_some_and(|line| line.contains("takes no writes")), "{words}");
    assert!(line(writer.port()).is_some_and(|line| line.ends_with("takes writes")), "{words}");
    let late = Service::start(&schema, &settings);
    late.wait_until_ready();
    assert!(
        late.get("/messages").text().contains("to the second"),
        "a reader that stands first in the list is passed over"
    );
    writer.connect().query_drop(format!("DROP USER {user}@'127.0.0.1'")).unwrap();
}
