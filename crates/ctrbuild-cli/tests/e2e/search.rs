//! Looking for images: on a small imitation of Docker Hub, in Debian's docker-registry, and where there is no list.

use crate::place::{Place, registry as start, run};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use testkit::{Access, Rule, TestRegistry};

/// What Docker Hub answers.
const ANSWER: &str = r#"{"num_pages":1,"num_results":3,"page":1,"page_size":25,"query":"nginx","results":[
  {"name":"nginx","description":"Official build of Nginx.","star_count":20000,"is_official":true,"is_automated":false,"is_trusted":false},
  {"name":"some/nginx","description":"A very long description that goes on\nand on \u001b[2J until nobody reads it any more","star_count":12,"is_official":false,"is_automated":true},
  {"name":"odd/one","star_count":0}]}"#;

/// Answers every request with the same; tells what was asked.
struct Hub {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn start(status: u16, body: &'static str) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = asked.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                told.lock().unwrap().extend(Hub::answer(stream, status, body));
            }
        });
        Hub { url, asked }
    }

    fn answer(mut stream: TcpStream, status: u16, body: &str) -> Option<String> {
        let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
        let first = lines.next()?.ok()?;
        while lines.next().is_some_and(|l| l.is_ok_and(|l| !l.is_empty())) {}
        let head =
            format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body.as_bytes()).ok()?;
        Some(first)
    }
}

#[test]
fn docker_hub_is_searched() {
    let place = Place::bare();
    let hub = Hub::start(200, ANSWER);
    let search = |args: &[&str]| {
        let mut command = place.command(["search"]);
        run(command.args(args).env("CTRBUILD_SEARCH_INDEX", &hub.url))
    };
    let table = search(&["--limit", "7", "nginx x"]).ok();
    assert_eq!(hub.asked.lock().unwrap()[0], "GET /v1/search?q=nginx+x&n=7 HTTP/1.1");
    let lines: Vec<&str> = table.lines().collect();
    let heading: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(heading, ["NAME", "DESCRIPTION", "STARS", "OFFICIAL", "AUTOMATED"]);
    assert!(lines[1].starts_with("nginx ") && lines[1].contains("20000   [OK]"), "{table}");
    assert!(
        lines[2].contains("A very long description that goes on and on") && lines[2].contains("…"),
        "{table}"
    );
    assert!(lines.len() == 4 && !table.contains('\x1b'), "{table}");
    let whole = search(&["--no-trunc", "nginx"]).ok();
    assert!(whole.contains("until nobody reads it any more"), "{whole}");
    let names = |args: &[&str]| -> Vec<String> {
        let all = search(&[&["--format", "json", "nginx"], args].concat()).ok();
        all.lines()
            .map(|l| serde_json::from_str::<Value>(l).unwrap()["name"].as_str().unwrap().into())
            .collect()
    };
    assert_eq!(names(&[]), ["nginx", "some/nginx", "odd/one"]);
    assert_eq!(names(&["--filter", "is-official=true"]), ["nginx"]);
    assert_eq!(names(&["-f", "stars=12", "-f", "is-official=false"]), ["some/nginx"]);
    assert_eq!(names(&["-f", "is-automated=true"]), ["some/nginx"]);
    for (args, word) in [
        (&["-f", "color=red", "x"][..], "color=red"),
        (&["-f", "stars=many", "x"], "stars=many"),
        (&[""], "nothing to search"),
    ] {
        let said = search(args).err();
        assert!(said.contains(word) && said.contains("hint: "), "{said}");
    }
    assert_eq!(search(&["--limit", "0", "x"]).code, Some(2));
    // Trouble is told, not shown as an empty list.
    for (status, body) in [(404, "{}"), (200, "<html>")] {
        let hub = Hub::start(status, body);
        let mut command = place.command(["search", "x"]);
        let said = run(command.env("CTRBUILD_SEARCH_INDEX", &hub.url)).err();
        assert!(said.starts_with("error: "), "{said}");
    }
}

#[test]
fn a_registry_is_searched_by_its_lists() {
    let Some(place) = Place::with_base() else { return };
    let Some(registry) = start(&place, Access::Open) else { return };
    for name in ["team/web:1", "team/web:2", "team/worker:1", "other:9"] {
        place.run(["push", "-q", "base", &registry.name(name)]).ok();
    }
    let found = place.run(["search", &registry.name("w")]).ok();
    let names: Vec<&str> = found.lines().skip(1).map(|l| l.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, [registry.name("team/web"), registry.name("team/worker")]);
    assert!(found.contains("tags: 1, 2"), "{found}");
    let all = place.run(["search", "--limit", "2", "--format", "json", &registry.name("")]).ok();
    assert_eq!(all.lines().count(), 2, "{all}");
    let tags = place.run(["search", "--list-tags", &registry.name("team/web")]).ok();
    assert!(tags.lines().count() == 3 && tags.starts_with("NAME"), "{tags}");
    let said = place.run(["search", "--list-tags", &registry.name("nobody")]).err();
    assert!(said.contains("was not found"), "{said}");
    let said = place.run(["search", "-f", "stars=1", &registry.name("w")]).err();
    assert!(said.contains("neither stars"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_without_a_list_say_so() {
    let place = Place::bare();
    let registry = TestRegistry::start().await;
    let platform = oci::Platform::new("linux", "amd64");
    registry.add("team/web", "1", &testkit::image(&platform, &[&[("f", b"x")]]));
    registry.rule(Rule::status("GET", "/v2/_catalog", 404));
    let name = format!("{}/team/web", registry.domain());
    let (term, domain) = (name.clone(), format!("{}/web", registry.domain()));
    let (one, none) = tokio::task::spawn_blocking(move || {
        (run(&mut place.command(["search", &term])), run(&mut place.command(["search", &domain])))
    })
    .await
    .unwrap();
    assert!(one.stdout.contains(&name) && one.stdout.contains("tags: 1"), "{one:?}");
    assert!(one.stderr.contains("does not list its repositories"), "{one:?}");
    let said = none.err();
    assert!(said.contains("does not list its repositories") && said.contains("--list-tags"), "{said}");
}
