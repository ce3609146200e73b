//! The config as a whole: the two files we ship, folders of valid and invalid ones, and text nobody would write.

use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;

use super::*;

#[test]
fn the_shortest_file_is_all_defaults() {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let stack = |text| Stack { endpoints: vec![address(text)], ..Stack::default() };
    let expected = Config {
        admin: Admin::default(),
        state: State::default(),
        edge: Edge::default(),
        listeners: vec![Listener { address: address("0.0.0.0:8080"), name: None, tls: None }],
        services: vec![Service {
            name: "shop".parse().unwrap(),
            hosts: vec![],
            path: PathPrefix::root(),
            stacks: PerColor { blue: stack("10.0.1.10:8080"), green: stack("10.0.2.10:8080") },
            health: Health::default(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            cutover: CutoverRules::default(),
            stack_rules: StackRules::default(),
            dns: None,
        }],
        access_log: None,
        aws: Aws::default(),
    };
    assert_eq!(shipped("minimal.toml"), expected);
}

#[test]
fn the_full_file_shows_the_defaults() {
    let config = Config::parse(&full_file(), &root().join("config/cutover.toml")).unwrap();
    let [service] = &config.services[..] else { panic!("one service keeps the file short") };
    assert_eq!(config.admin.socket, Admin::default().socket);
    assert_eq!(config.state, State::default());
    assert_eq!(Edge { trusted_proxies: Vec::new(), ..config.edge }, Edge::default());
    let log = AccessLog {
        file: LogFile::Path("/var/log/cutover/access.log".into()),
        format: LogFormat::Json,
        buffer: AccessLog::BUFFER,
    };
    assert_eq!(config.access_log, Some(log));
    assert_eq!(config.aws.timeouts, AwsTimeouts::default());
    let expect_stack = Some(StackMark { header: Some("x-stack".into()), json: Some("/build/stack".into()) });
    let slow_start = Duration::from_secs(10);
    assert_eq!((service.health.slow_start, service.cutover.ramp), (slow_start, slow_start));
    assert_eq!(service.health, Health { path: Some("/healthz".into()), expect_stack, slow_start, ..Health::default() });
    assert_eq!(service.stacks.green.stack.as_deref(), Some("release-42"));
    assert_eq!(service.timeouts, Timeouts::default());
    let StackRules { app, service_role_arn, .. } = service.stack_rules.clone();
    assert_eq!((app.as_deref(), service_role_arn.is_some()), (Some("shop"), true));
    assert_eq!(service.stack_rules, StackRules { app, service_role_arn, ..StackRules::default() });
    assert_eq!(service.limits, Limits { request_body: Some(10 << 20), ..Limits::default() });
    let CutoverRules { canary, sticky, preview, mirror, .. } = service.cutover.clone();
    let step = |weight, lasts| CanaryStep { weight: Share(weight), lasts: Duration::from_mins(lasts) };
    assert_eq!(canary, [step(500, 2), step(2_500, 5)]);
    assert_eq!(Sticky { header: None, cookie: None, ..sticky }, Sticky::default());
    assert_eq!(Previews { from: Vec::new(), ..preview.clone() }, Previews::default());
    let bake = service.cutover.bake.clone().unwrap();
    assert_eq!(Bake { p50: None, p99: None, ..bake }, Bake::default());
    let questions: Vec<_> = service.cutover.gates.iter().map(|gate| &gate.question).collect();
    let defaults = (Duration::from_secs(10), 3);
    assert!(matches!(
        questions[..],
        [Question::Approve, Question::Webhook { timeout, retries, .. }, Question::Run { timeout: other, .. }]
            if (*timeout, *retries) == defaults && *other == defaults.0
    ));
    let rules = CutoverRules {
        min_capacity: None,
        gates: Vec::new(),
        warm: None,
        bake: None,
        canary: Vec::new(),
        ramp: Duration::ZERO,
        sticky: Sticky::default(),
        preview: Previews::default(),
        ..service.cutover.clone()
    };
    assert_eq!(CutoverRules { mirror: None, ..rules }, CutoverRules::default());
    let warm = service.cutover.warm.clone().unwrap();
    let requests = warm.requests.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(requests, ["GET /", "GET /products?page=1", "HEAD /search"]);
    assert_eq!((warm.connections, warm.rate, warm.requests_each(), warm.https), (8, 50, 275, true));
    assert_eq!((warm.lasts.as_secs(), warm.deadline.as_secs(), warm.max_error_share), (10, 30, Share(500)));
    let mirror = mirror.unwrap();
    assert_eq!(
        (mirror.methods, mirror.concurrency, mirror.timeout.as_secs()),
        (vec!["GET".into(), "HEAD".into()], 8, 5)
    );
    assert_eq!(service.path, PathPrefix::root());
    let dns = service.dns.as_ref().unwrap();
    let ttls = (dns.ttl.as_secs(), dns.lower_ttl.as_secs());
    assert_eq!(
        (dns.mode, ttls, dns.start, dns.deadline.as_secs(), dns.drift),
        (DnsMode::Weighted, (60, 10), DnsStart::AfterBake, 1800, Drift::Alert)
    );
    assert_eq!(dns.tail, DnsTail::default());
    assert_eq!(dns.records.len(), 2);
    let tls = config.listeners[1].tls.as_ref().unwrap();
    assert_eq!((tls.min_version, tls.post_quantum), (TlsVersion::V1_2, true));
    let cert = tls.certificates[0].cert.get_ref();
    assert_eq!(*cert, root().join("config/shop.pem"), "relative to the folder of the file");
}

/// `config/cutover.toml` with the keys that it comments out, since the files they name need not exist.
fn full_file() -> String {
    shipped("cutover.toml");
    let text = fs::read_to_string(root().join("config/cutover.toml")).unwrap();
    let out = [
        "# [",
        "# address =",
        "# certificates =",
        "# min_version =",
        "# post_quantum =",
        "# token_file =",
        "# zone =",
        "# mode =",
        "# ttl =",
        "# lower_ttl =",
        "# start =",
        "# deadline =",
        "# name_servers =",
        "# drift =",
        "# tail =",
        "# name =",
        "# type =",
        "# blue =",
        "# green =",
        "# proxy =",
        "# allow_plain_http =",
        "# credentials_file =",
        "# endpoint_url =",
        "# profile =",
        "# region =",
        "# app =",
        "# service_role_arn =",
    ];
    let line = |line: &str| line[if out.iter().any(|key| line.starts_with(key)) { 2 } else { 0 }..].to_owned() + "\n";
    text.lines().map(line).collect()
}

/// The file as it is, and once more for each source of endpoints that it shows in a comment, for either color.
fn full_files() -> Vec<String> {
    let full = full_file();
    let sources: Vec<_> = full.lines().filter_map(|line| line.strip_prefix("# discover =")).collect();
    let endpoints: Vec<_> = full.lines().filter(|line| line.starts_with("endpoints =")).collect();
    assert_eq!((sources.len(), endpoints.len()), (5, 2), "a color's endpoints stand on one line, as does each source");
    let discovered = |source| endpoints.iter().map(move |line| (line, format!("discover ={source}")));
    let mut files: Vec<_> =
        sources.iter().flat_map(discovered).map(|(line, source)| full.replace(*line, &source)).collect();
    files.push(full);
    files
}

#[test]
fn the_full_file_shows_the_defaults_of_discovery() {
    for file in full_files() {
        let config = Config::parse(&file, Path::new("")).unwrap_or_else(|report| panic!("{report}"));
        let discovered =
            config.services[0].stacks.iter().filter_map(|(_, stack)| stack.discover.as_ref().zip(Some(stack)));
        for (Discover { interval, min_share, .. }, stack) in discovered {
            assert_eq!((interval.as_secs(), *min_share, stack.endpoints.len()), (10, Share(5_000), 0));
        }
    }
}

/// The reader itself is asked for its keys: an unknown one in every table makes it list those it knows.
#[test]
fn the_full_file_shows_every_key_there_is() {
    let (mut shown, mut known) = (BTreeSet::new(), BTreeSet::from(["service.shop".to_owned()]));
    for text in full_files() {
        let mut gaps = BTreeSet::from([0]);
        walk(&text, "", DeTable::parse(&text).unwrap().get_ref(), &mut shown, &mut gaps);
        let mut strange = text.clone();
        for gap in gaps.iter().rev() {
            strange.insert_str(*gap, if text[..*gap].ends_with('{') { "zzz = 1, " } else { "\nzzz = 1\n" });
        }
        let report = Config::parse(&strange, Path::new("")).unwrap_err();
        assert_eq!(report.mistakes.len(), gaps.len(), "{report}");
        for mistake in &report.mistakes {
            let section = mistake.message.split('`').nth(3).map_or(String::new(), |section| format!("{section}."));
            let keys = mistake.help.as_ref().unwrap().split('`').skip(1).step_by(2);
            known.extend(keys.map(|key| format!("{section}{key}")));
        }
    }
    assert_eq!(known, shown);
}

/// Collects the path of every key, and of every table the place where another key could stand.
fn walk(text: &str, above: &str, table: &DeTable, shown: &mut BTreeSet<String>, gaps: &mut BTreeSet<usize>) {
    for (key, value) in table {
        let path = format!("{above}{key}");
        if path.ends_with(NAMED_FREELY) {
            shown.insert(path);
            continue;
        }
        let items = value.get_ref().as_array().map_or(vec![value], |items| items.iter().collect());
        for item in items {
            let Some(below) = item.get_ref().as_table() else { continue };
            match &text[item.span()] {
                inline if inline.starts_with('{') => gaps.insert(item.span().start + 1),
                header if header.starts_with('[') => gaps.insert(item.span().end),
                _ => false,
            };
            walk(text, &format!("{path}."), below, shown, gaps);
        }
        shown.insert(path);
    }
}

/// What two configs are compared by knows every key that can be written.
#[test]
fn no_key_can_change_unseen() {
    let (mut shown, mut compared) = (BTreeSet::new(), BTreeSet::new());
    for text in full_files() {
        walk(&text, "", DeTable::parse(&text).unwrap().get_ref(), &mut shown, &mut BTreeSet::new());
        flatten("", &diff::tree(&Config::parse(&text, Path::new("")).unwrap()), &mut compared);
    }
    let address = |path: &String| ["listener.0.0.0.0:80", "listener.0.0.0.0:443"].contains(&path.as_str());
    compared.retain(|path| !address(path));
    let compared: BTreeSet<_> =
        compared.iter().map(|path| path.replace(".0.0.0.0:80", "").replace(".0.0.0.0:443", "")).collect();
    assert_eq!(compared, shown);
}

/// Collects the path of every key of what two configs are compared by.
fn flatten(above: &str, value: &serde_json::Value, paths: &mut BTreeSet<String>) {
    let items = value.as_array().map_or(vec![value], |items| items.iter().collect());
    for (key, value) in items.into_iter().filter_map(|item| item.as_object()).flatten() {
        paths.insert(format!("{above}{key}"));
        if format!("{above}{key}").ends_with(NAMED_FREELY) {
            continue;
        }
        flatten(&format!("{above}{key}."), value, paths);
    }
}

#[test]
fn a_broken_file_still_says_where_the_socket_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cutover.toml");
    for (text, socket) in [
        ("[admin]\nsocket = \"a.sock\"\n[service.shop\n", Some("a.sock")),
        ("[admin]\nsocket = \"/run/a.sock\"\nlisten = 7\n", Some("/run/a.sock")),
        ("[admin]\nsocket = 7\n", None),
        ("[admim]\nsocket = \"a.sock\"\n", None),
        ("", None),
    ] {
        fs::write(&path, text).unwrap();
        assert_eq!(Config::socket(&path).ok(), socket.map(|socket| folder.path().join(socket)), "{text}");
    }
    assert!(Config::socket(Path::new("/nowhere/cutover.toml")).is_err());
}

#[test]
fn every_valid_file_is_read() {
    for path in files("valid") {
        Config::load(&path).unwrap_or_else(|report| panic!("{report}"));
    }
}

/// `UPDATE=1 cargo test` writes the reports anew; read each one as an operator would, at three in the morning.
#[test]
fn every_invalid_file_is_reported_as_expected() {
    for path in files("invalid") {
        let name = Path::new(path.file_name().unwrap());
        let text = fs::read(&path).unwrap();
        let found = match String::from_utf8(text) {
            Ok(text) => Config::parse(&text, name).expect_err(&path.display().to_string()),
            Err(error) => Report::not_text(name, &error),
        };
        let expected = path.with_extension("expected");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&expected, format!("{found}\n")).unwrap();
        }
        assert_eq!(format!("{found}\n"), fs::read_to_string(&expected).unwrap_or_default(), "{}", path.display());
    }
}

#[test]
fn a_file_that_is_not_there_comes_with_a_remedy() {
    let report = Config::load(Path::new("/nowhere/cutover.toml")).unwrap_err().to_string();
    assert!(report.contains("No such file") && report.contains("/nowhere/cutover.toml"), "{report}");
    assert!(report.contains("config/minimal.toml") && report.contains("--config"), "{report}");
    let folder = Config::load(&root()).unwrap_err().to_string();
    assert!(folder.contains("directory") && folder.contains("--config"), "{folder}");
}

#[test]
fn a_report_is_json_for_scripts_and_coloured_only_if_asked() {
    let report = Config::parse("\u{feff}é = [\"ü\", 1s]", Path::new("a.toml")).unwrap_err();
    let [mistake, ..] = &report.mistakes[..] else { panic!("{report}") };
    assert!(report.render(true).contains("\u{1b}[") && !report.to_string().contains('\u{1b}'));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["path"], "a.toml");
    let first = serde_json::json!({
        "line": 1, "column": 1, "text": mistake.text, "message": mistake.message, "help": mistake.help,
    });
    assert_eq!(json["mistakes"][0], first);
}

#[test]
fn columns_count_characters() {
    let text = "[service.shop]\nhosts = [\"ü\", \"a.example\", 7]\n";
    let report = Config::parse(text, Path::new("")).unwrap_err();
    let seven = report.mistakes.iter().find(|mistake| mistake.text == "7").unwrap();
    assert_eq!((seven.line, seven.column), (2, 28));
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        check(&text)?;
    }

    /// Nearly right text gets further in than random text does.
    #[test]
    fn no_slip_of_the_fingers_makes_the_reader_panic(
        slips in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, SLIPS), 1..6)
    ) {
        let text = fs::read_to_string(root().join("config/cutover.toml")).unwrap();
        let lines = text.split_inclusive('\n').filter(|line| !line.starts_with('#'));
        let mut text: Vec<char> = lines.flat_map(str::chars).collect();
        for (at, gone, new) in &slips {
            let at = at.index(text.len());
            text.splice(at..(at + gone).min(text.len()), new.chars());
        }
        check(&text.into_iter().collect::<String>())?;
    }
}

/// Whatever the text, a mistake has its place inside it, and the report shows that place.
fn check(text: &str) -> Result<(), TestCaseError> {
    let Err(report) = Config::parse(text, Path::new("x.toml")) else {
        prop_assert!(DeTable::parse(text).is_ok(), "repaired text passed for the file's own");
        return Ok(());
    };
    prop_assert!(!report.mistakes.is_empty());
    let text = &*report.source;
    for mistake in &report.mistakes {
        prop_assert_eq!(text.get(mistake.span.clone()), Some(&*mistake.text));
        let line = text.split('\n').nth(mistake.line - 1).unwrap();
        let rest: String = line.chars().skip(mistake.column - 1).collect();
        prop_assert!(rest.starts_with(&mistake.text), "{:?} is not at {}", mistake.text, mistake.column);
    }
    let shown = report.to_string();
    for mistake in report.mistakes.iter().filter(|_| !text.is_empty()) {
        let place = format!("x.toml:{}:{}\n", mistake.line, mistake.column);
        prop_assert!(shown.contains(&place), "{} not in\n{}", place, shown);
    }
    Ok(())
}

fn shipped(name: &str) -> Config {
    Config::load(&root().join("config").join(name)).unwrap_or_else(|report| panic!("{report}"))
}

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join("tests/it/config").join(folder)).unwrap();
    let mut files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    assert!(!files.is_empty());
    files.sort();
    files
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A section whose keys are whatever somebody called them.
const NAMED_FREELY: &str = ".discover.ec2.tags";
const SLIPS: &str = "[\\[\\]{}\"'=,.#\\n\r\t \u{0}0-9a-cé😀]{0,6}";
