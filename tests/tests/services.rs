//! Programs from Debian that serve others: asked before a move and after it, they answer as if nothing had happened.

use std::fs;
use std::time::Duration;

use migrate_tests::hosts;
use migrate_tests::hosts::{Host, Hosts, Started};
use migrate_tests::waiting::wait_for;
use tempfile::TempDir;

/// How long one may take to begin, or to answer.
const PATIENCE: Duration = Duration::from_secs(20);

fn start<'h>(hosts: &'h Hosts, files: &[(&str, &str)], command: &[&str]) -> Started<'h> {
    let directory = TempDir::new().expect("a directory");
    for (name, text) in files {
        fs::write(directory.path().join(name), text).expect("a file");
    }
    hosts.start(Host::Alpha, directory, command)
}

/// What a command says where the service is; None: it failed.
fn ask(service: &Started<'_>, command: &[&str]) -> Option<String> {
    let said = service.hosts.exec(service.host, command);
    said.status.success().then(|| String::from_utf8_lossy(&said.stdout).into_owned())
}

/// Moves it over and over, and has it asked in between.
fn moves(service: &mut Started<'_>, times: usize, mut ask: impl FnMut(&Started<'_>, usize)) {
    for n in 0..times {
        ask(service, n);
        service.move_over().unwrap_or_else(|why| panic!("move {}: {why}{}", n + 1, service.said()));
        assert!(service.runs_only(service.host), "after move {}: {}", n + 1, service.said());
    }
    ask(service, times);
}

const REDIS: &str = "/usr/bin/redis-server";

#[test]
fn redis() {
    let Some(hosts) = hosts!("redis", &[REDIS, "/usr/bin/redis-cli"]) else { return };
    // Setting its title it would write over its environment, by which it is found.
    const CONFIGURATION: &str = "\
bind 127.0.0.1
port 6390
unixsocket redis.sock
appendonly yes
save \"\"
set-proc-title no
";
    let mut redis = start(&hosts, &[("redis.conf", CONFIGURATION)], &[REDIS, "redis.conf"]);
    let cli = |redis: &Started<'_>, words: &[&str]| ask(redis, &[&["redis-cli", "-p", "6390"], words].concat());
    let begun = wait_for(PATIENCE, || cli(&redis, &["ping"]).filter(|pong| pong.trim() == "PONG"));
    assert!(begun.is_some(), "{}", redis.said());
    moves(&mut redis, 6, |redis, n| {
        let key = format!("key{n}");
        assert_eq!(cli(redis, &["set", &key, "value"]).as_deref(), Some("OK\n"), "{}", redis.said());
        assert_eq!(cli(redis, &["dbsize"]), Some(format!("{}\n", n + 1)));
        let by_path = redis.path("redis.sock").display().to_string();
        assert_eq!(
            ask(redis, &["redis-cli", "-s", &by_path, "get", &key]).as_deref(),
            Some("value\n"),
            "{}",
            redis.said()
        );
        // Until it has noticed that they are gone, these clients are established connections.
        let alone = || cli(redis, &["client", "list"]).filter(|list| list.lines().count() == 1);
        assert!(wait_for(PATIENCE, alone).is_some(), "{:?}", cli(redis, &["client", "list"]));
        std::thread::sleep(Duration::from_millis(100));
    });
    assert_eq!(cli(&redis, &["save"]).as_deref(), Some("OK\n"));
    let log = redis.path("appendonlydir");
    let log =
        fs::read_dir(&log).expect("the log").flatten().find(|e| e.path().to_string_lossy().ends_with(".incr.aof"));
    let log = fs::read_to_string(log.expect("an append-only file").path()).expect("text");
    assert!((0..=6).all(|n| log.contains(&format!("key{n}\r\n"))), "{log}");
    assert!(redis.path("dump.rdb").exists());
    assert!(cli(&redis, &["shutdown", "nosave"]).is_some());
    redis.wait_end(PATIENCE).unwrap_or_else(|e| panic!("{e}"));
}

const NGINX: &str = "/usr/sbin/nginx";

#[test]
fn nginx() {
    const CONFIGURATION: &str = "
daemon off; master_process off; pid nginx.pid; error_log error.log;
events { worker_connections 64; }
http {
    access_log access.log; client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
    keepalive_timeout 0;
    server { listen 127.0.0.1:8090; listen [::1]:8090; root .; }
}
";
    let Some(hosts) = hosts!("nginx", &[NGINX, "/usr/bin/python3"]) else { return };
    let files = [("nginx.conf", CONFIGURATION), ("page", "what it serves\n")];
    let command = ["sh", "-c", "exec nginx -p \"$PWD\" -c nginx.conf -e error.log -g 'user root;'"];
    let mut nginx = start(&hosts, &files, &command);
    const FETCH: &str =
        "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8090/page', timeout=5).read().decode(), end='')";
    let fetch = |nginx: &Started<'_>| ask(nginx, &["python3", "-c", FETCH]);
    assert!(wait_for(PATIENCE, || fetch(&nginx)).is_some(), "{}{}", nginx.said(), nginx.text("error.log"));
    let first = nginx.text("access.log").lines().count();
    moves(&mut nginx, 6, |nginx, n| {
        assert_eq!(
            fetch(nginx).as_deref(),
            Some("what it serves\n"),
            "{n}: {}{}",
            nginx.said(),
            nginx.text("error.log")
        );
        std::thread::sleep(Duration::from_millis(100));
    });
    assert_eq!(nginx.text("access.log").lines().count(), first + 7, "{}", nginx.text("access.log"));
}

#[test]
fn inotifywait() {
    let Some(hosts) = hosts!("inotifywait", &["/usr/bin/inotifywait"]) else { return };
    let command =
        ["sh", "-c", "mkdir watched; exec inotifywait --monitor --format '%e %f' --event create,moved_to watched"];
    let mut watcher = start(&hosts, &[], &command);
    let begun = wait_for(PATIENCE, || watcher.text("stderr").contains("established").then_some(()));
    assert!(begun.is_some(), "{}", watcher.said());
    let mut expected = String::new();
    moves(&mut watcher, 6, |watcher, n| {
        fs::write(watcher.path(&format!("watched/file{n}")), "").expect("a file");
        expected += &format!("CREATE file{n}\n");
        let told = wait_for(PATIENCE, || (watcher.text("stdout") == expected).then_some(()));
        assert!(told.is_some(), "{}", watcher.said());
    });
}

const SOCAT: &str = "/usr/bin/socat";

#[test]
fn socat_between_unix_sockets() {
    let Some(hosts) = hosts!("socat_between_unix_sockets", &[SOCAT]) else { return };
    let mut relay = start(&hosts, &[], &[SOCAT, "-u", "UNIX-RECV:in.sock", "UNIX-SENDTO:out.sock"]);
    assert!(wait_for(PATIENCE, || relay.path("in.sock").exists().then_some(())).is_some(), "{}", relay.said());
    moves(&mut relay, 4, |relay, n| {
        // Both ends are programs that come and go; the paths stay.
        let out = format!("UNIX-RECV:{},unlink-early=1", relay.path("out.sock").display());
        let into = format!("UNIX-SENDTO:{}", relay.path("in.sock").display());
        let script = format!(
            "timeout 10 socat -u {out} - > {got} & receiver=$!; while ! [ -S {socket} ]; do sleep 0.01; done; echo message {n} | socat -u - {into}; while ! [ -s {got} ]; do sleep 0.01; done; kill $receiver; rm {socket}",
            got = relay.path("got").display(),
            socket = relay.path("out.sock").display()
        );
        ask(relay, &["timeout", "15", "sh", "-c", &script]);
        assert_eq!(relay.text("got"), format!("message {n}\n"), "{}", relay.said());
    });
}
