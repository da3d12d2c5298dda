//! Tests of the commands for all security products (RACF, ACF2 and Top Secret). A PassTicket is a short-lived password
//! of z/OS. An APPLID is the name of an application on z/OS.

use proptest::prelude::*;
use test_support::tickets::user;
use tower_passticket::passticket::DEFAULT_WINDOW;

use super::*;

/// Returns all commands for a security product: commands for PassTickets, keys, delegation, and each kind of identity.
/// The user ids and the APPLID have the maximum length.
fn all_topics(esm: Esm) -> Vec<Commands> {
    let (gateway, user) = (user("ZWESVUSR"), user("JANEDOE1"));
    let applid = Applid::new("IZUDFLT8").unwrap();
    let algorithms = [Algorithm::Legacy, Algorithm::EnhancedUpper, Algorithm::EnhancedMixed];
    let applications = algorithms.into_iter().flat_map(|algorithm| {
        [Replay::Protected, Replay::Allowed].map(|replay| Application {
            applid,
            algorithm,
            replay,
            window: DEFAULT_WINDOW,
        })
    });
    let email = "jane@acme.com".parse().unwrap();
    let registry = "ldaps://us.acme.com".parse().unwrap();
    let name = "CN=Jane,O=Acme".parse().unwrap();
    let label = "Zowe JANEDOE1".parse().unwrap();
    let identities = [
        Identity::Email { email: &email, registry: &registry },
        Identity::Certificate { subject: &name, issuer: None },
        Identity::Certificate { subject: &name, issuer: Some(&name) },
    ];
    let mut all = vec![
        passticket(esm, &gateway, &[applid, applid]),
        keys(esm, &applications.collect::<Vec<_>>()),
        delegate(esm, &[user, user]),
    ];
    all.extend(identities.map(|id| identity(esm, &gateway, &user, id, &label).unwrap()));
    let applications = algorithms.map(|algorithm| Application {
        applid,
        algorithm,
        replay: Replay::Protected,
        window: DEFAULT_WINDOW,
    });
    let expected =
        verify::Expected { gateway, applications: applications.to_vec(), users: vec![user] };
    all.push(verify::display_commands(esm, &expected));
    all
}

fn is_comment(line: &str) -> bool {
    let tso = line.strip_prefix(" /* ").and_then(|line| line.strip_suffix(" */"));
    line.starts_with("* ") || tso.is_some_and(|text| !text.contains("*/"))
}

/// Returns the commands that TSO (the command processor of z/OS) executes: without comments, and each as one line. Also
/// asserts the format of each line.
fn submitted(commands: &Commands) -> Vec<String> {
    let mut submitted: Vec<String> = Vec::new();
    let mut continued = false;
    for line in commands.lines() {
        assert!(line.len() <= 72, "{line}");
        assert!(line.bytes().all(|b| matches!(b, b' '..=b'~')), "{line:?}");
        assert!(!line.starts_with("/*") && !line.starts_with("//"), "{line}");
        let (text, continues) = match line.strip_suffix('+') {
            Some(text) => (text, true),
            None => (line, false),
        };
        if continued {
            let stripped = text.trim_start();
            submitted.last_mut().unwrap().push_str(stripped);
            continued = continues;
        } else if !is_comment(line) {
            submitted.push(text.to_owned());
            continued = continues;
        }
    }
    assert!(!continued, "the last line is continued");
    submitted
}

#[test]
fn lines_have_the_syntax_of_the_products() {
    const VERBS: [&str; 21] = [
        "LISTUSER ",
        "SETROPTS ",
        "RDEFINE ",
        "PERMIT ",
        "RLIST ",
        "RACMAP ",
        "RACDCERT ",
        "ACF",
        "END",
        "SET ",
        "RECKEY ",
        "F ACF2,",
        "LIST ",
        "INSERT ",
        "SHOW ",
        "TSS ADD",
        "TSS PERMIT(",
        "TSS REFRESH",
        "TSS WHOHAS ",
        "TSS LIST(",
        "CHANGE ",
    ];
    for esm in Esm::ALL {
        for commands in all_topics(esm) {
            let mut in_acf = false;
            for line in commands.lines() {
                in_acf = match line {
                    "ACF" => true,
                    "END" => false,
                    _ => in_acf,
                };
                assert_eq!(line.starts_with("* "), in_acf && is_comment(line), "{line}");
            }
            assert!(!in_acf, "END is missing");
            for command in submitted(&commands) {
                assert!(VERBS.iter().any(|verb| command.starts_with(verb)), "{command}");
                let parentheses = |c| command.matches(c).count();
                assert_eq!(parentheses('('), parentheses(')'), "{command}");
                assert_eq!(parentheses('\'') % 2, 0, "{command}");
            }
            // If a comment ended with + or -, the next command would be part of the comment.
            let is_continued = |line: &&str| line.ends_with(['+', '-']) && line.starts_with("* ");
            let continued: Vec<_> = commands.lines().filter(is_continued).collect();
            assert!(continued.is_empty(), "{continued:?}");
        }
    }
}

#[test]
fn timeout_is_the_window_and_a_longer_window_has_a_comment() {
    let applid = Applid::new("IZUDFLT").unwrap();
    for (algorithm, seconds, timeout, warning) in [
        (Algorithm::EnhancedUpper, 60, Some("TIMEOUT(60)"), false),
        (Algorithm::EnhancedUpper, 600, Some("TIMEOUT(600)"), false),
        (Algorithm::EnhancedMixed, 601, Some("TIMEOUT(600)"), true),
        (Algorithm::Legacy, 600, None, false),
        (Algorithm::Legacy, 86_400, None, true),
    ] {
        let window = Duration::from_secs(seconds);
        let application = Application { applid, algorithm, replay: Replay::Protected, window };
        let commands = keys(Esm::Racf, &[application]);
        let define = submitted(&commands).into_iter().find(|it| it.starts_with("RDEFINE")).unwrap();
        assert_eq!(timeout.is_some(), define.contains("TIMEOUT"), "{define}");
        assert!(timeout.is_none_or(|timeout| define.contains(timeout)), "{define}");
        let notes = commands.to_string().replace(" */\n /*", "");
        assert_eq!(notes.contains("The windowSeconds of IZUDFLT are too many"), warning, "{notes}");
    }
}

/// In ACF2, `CHANGE INFODIR` without `ADD` removes the other types from the list.
#[test]
fn acf2_adds_a_type_to_infodir_and_rebuilds_the_rules() {
    let applid = Applid::new("IZUDFLT").unwrap();
    let all = [
        passticket(Esm::Acf2, &user("ZWESVUSR"), &[applid]).to_string(),
        delegate(Esm::Acf2, &[user("JANE")]).to_string(),
    ]
    .concat();
    for line in all.lines().filter(|line| line.contains("INFODIR TYPES")) {
        assert!(line.ends_with(" ADD"), "{line}");
    }
    assert_eq!(all.matches("INFODIR TYPES").count(), 2);
    let commands = submitted(&passticket(Esm::Acf2, &user("ZWESVUSR"), &[applid]));
    let place = |command: &str| commands.iter().position(|it| it == command).expect(command);
    let rule = commands.iter().position(|it| it.starts_with("RECKEY")).unwrap();
    let infodir = place("CHANGE INFODIR TYPES(R-RPTK) ADD");
    let (refresh, rebuild) = (place("F ACF2,REFRESH(INFODIR)"), place("F ACF2,REBUILD(PTK)"));
    assert!(rule < infodir && infodir < refresh && refresh < rebuild, "{commands:?}");
}

/// The table of sources in the documentation has a row for each command.
#[test]
fn each_command_has_a_source_in_the_documentation() {
    let page = include_str!("../../../../docs/reference/security-products.md");
    let (_, table) = page.split_once("<a id=\"command-sources\"></a>").unwrap();
    let rows: Vec<_> = table
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2))
        .collect();
    for command in Esm::ALL.into_iter().flat_map(all_topics).flat_map(|it| submitted(&it)) {
        if matches!(&*command, "ACF" | "END") {
            continue;
        }
        let sourced = rows.iter().any(|row| command.starts_with(row));
        assert!(sourced, "{command} has no row in docs/reference/security-products.md");
    }
}

#[test]
fn the_commands_of_zowes_documentation_are_included_unchanged() {
    let (gateway, applid) = (user("ZWESVUSR"), Applid::new("OMVSAPPL").unwrap());
    for (esm, want) in [
        (
            Esm::Racf,
            &[
                "RDEFINE PTKTDATA IRRPTAUTH.OMVSAPPL.* UACC(NONE)",
                "PERMIT IRRPTAUTH.OMVSAPPL.* CL(PTKTDATA) ID(ZWESVUSR) ACCESS(UPDATE)",
                "SETROPTS RACLIST(PTKTDATA) REFRESH",
            ][..],
        ),
        (
            Esm::Acf2,
            &[
                "ACF",
                "SET RESOURCE(PTK)",
                "RECKEY IRRPTAUTH ADD(OMVSAPPL.- UID(ZWESVUSR) SERVICE(UPDATE,READ) ALLOW)",
                "F ACF2,REBUILD(PTK),CLASS(P)",
                "END",
            ],
        ),
        (
            Esm::TopSecret,
            &[
                "TSS PERMIT(ZWESVUSR) PTKTDATA(IRRPTAUTH.OMVSAPPL.) ACCESS(READ,UPDATE)",
                "TSS REFRESH",
            ],
        ),
    ] {
        let commands = submitted(&passticket(esm, &gateway, &[applid]));
        let places: Vec<_> =
            want.iter().map(|want| commands.iter().position(|command| command == want)).collect();
        assert!(places.iter().all(Option::is_some), "{esm}: {commands:?}");
        assert!(places.is_sorted(), "{esm}: {commands:?}");
    }
    let commands = submitted(&delegate(Esm::Racf, &[user("JANE")]));
    assert_eq!(
        commands[1..],
        [
            "RDEFINE ZOWE APIML.DELEGATE.PASSTICKET UACC(NONE)",
            "PERMIT APIML.DELEGATE.PASSTICKET CLASS(ZOWE) ID(JANE) ACCESS(READ)",
            "SETROPTS RACLIST(ZOWE) REFRESH",
            "RLIST ZOWE APIML.DELEGATE.PASSTICKET AUTHUSER",
        ]
    );
}

#[test]
fn commands_for_passticket_keys_set_replay_protection_and_contain_no_key() {
    let applid = Applid::new("IZUDFLT").unwrap();
    for (esm, algorithm, protected, allowed) in [
        (
            Esm::Racf,
            Algorithm::Legacy,
            "RDEFINE PTKTDATA IZUDFLT UACC(NONE) SSIGNON(KEYLABEL(PTKTDES.IZUDFLT))",
            "RDEFINE PTKTDATA IZUDFLT UACC(NONE) APPLDATA('NO REPLAY PROTECTION') \
             SSIGNON(KEYLABEL(PTKTDES.IZUDFLT))",
        ),
        (
            Esm::Racf,
            Algorithm::EnhancedUpper,
            "RDEFINE PTKTDATA IZUDFLT UACC(NONE) \
             SSIGNON(EPTKEYLABEL(PASSTICKET.IZUDFLT) TYPE(UPPER) TIMEOUT(600) REPLAY(NO))",
            "RDEFINE PTKTDATA IZUDFLT UACC(NONE) \
             SSIGNON(EPTKEYLABEL(PASSTICKET.IZUDFLT) TYPE(UPPER) TIMEOUT(600) REPLAY(YES))",
        ),
        (
            Esm::Racf,
            Algorithm::EnhancedMixed,
            "RDEFINE PTKTDATA IZUDFLT UACC(NONE) \
             SSIGNON(EPTKEYLABEL(PASSTICKET.IZUDFLT) TYPE(MIXED) TIMEOUT(600) REPLAY(NO))",
            "RDEFINE PTKTDATA IZUDFLT UACC(NONE) \
             SSIGNON(EPTKEYLABEL(PASSTICKET.IZUDFLT) TYPE(MIXED) TIMEOUT(600) REPLAY(YES))",
        ),
        (
            Esm::Acf2,
            Algorithm::Legacy,
            "INSERT IZUDFLT SSKEY(<16-hex-digits-of-IZUDFLT>) NOMULT-USE",
            "INSERT IZUDFLT SSKEY(<16-hex-digits-of-IZUDFLT>) MULT-USE",
        ),
        (
            Esm::TopSecret,
            Algorithm::Legacy,
            "TSS ADDTO(NDT) PSTKAPPL(IZUDFLT) SESSKEY(<16-hex-digits-of-IZUDFLT>)",
            "TSS ADDTO(NDT) PSTKAPPL(IZUDFLT) SESSKEY(<16-hex-digits-of-IZUDFLT>) SIGNMULTI",
        ),
    ] {
        for (replay, want, note) in [
            (Replay::Protected, protected, "Replay protection is on for IZUDFLT:"),
            (Replay::Allowed, allowed, "Replay protection is off for IZUDFLT:"),
        ] {
            let window = DEFAULT_WINDOW;
            let printed = keys(esm, &[Application { applid, algorithm, replay, window }]);
            let commands = submitted(&printed);
            assert!(commands.iter().any(|command| command == want), "{commands:?}");
            let notes = printed.to_string();
            assert_eq!(notes.matches("Replay protection is").count(), 1, "{notes}");
            assert!(notes.contains(note), "{notes}");
        }
    }
    let algorithm = Algorithm::EnhancedUpper;
    for esm in [Esm::Acf2, Esm::TopSecret] {
        for (replay, note) in
            [(Replay::Protected, "Do not allow multiple"), (Replay::Allowed, ". Allow multiple")]
        {
            let window = DEFAULT_WINDOW;
            let commands = keys(esm, &[Application { applid, algorithm, replay, window }]);
            assert_eq!(submitted(&commands), [""; 0]);
            // The comment may contain a line break between any two words.
            let notes = commands.to_string().replace(" */\n /*", "");
            assert!(notes.contains("No command for IZUDFLT, enhanced-upper"), "{notes}");
            assert!(notes.contains(note), "{notes}");
        }
    }
}

#[test]
fn apostrophes_are_doubled_for_racf_and_are_errors_for_other_products() {
    let (gateway, jane) = (user("ZWESVUSR"), user("JANE"));
    let email: EmailOperand = "jane.o'neil@acme.com".parse().unwrap();
    let registry = "acme".parse().unwrap();
    let label = "Zowe JANE".parse().unwrap();
    let id = Identity::Email { email: &email, registry: &registry };
    let commands = identity(Esm::Racf, &gateway, &jane, id, &label).unwrap();
    assert!(commands.to_string().contains("NAME('jane.o''neil@acme.com')"), "{commands}");
    for esm in [Esm::Acf2, Esm::TopSecret] {
        let error = identity(esm, &gateway, &jane, id, &label).unwrap_err().to_string();
        assert!(error.starts_with("\"jane.o'neil@acme.com\" has an apostrophe"), "{error}");
    }
    // Each of the following cases has one apostrophe: in the subject, in the issuer or in the label.
    let (plain, quote) = ("CN=Jane".parse().unwrap(), "CN=O'Neil".parse().unwrap());
    let label_with_quote: Label = "Jane's".parse().unwrap();
    for (subject, issuer, label) in
        [(&quote, None, &label), (&plain, Some(&quote), &label), (&plain, None, &label_with_quote)]
    {
        let id = Identity::Certificate { subject, issuer };
        assert!(identity(Esm::TopSecret, &gateway, &jane, id, label).is_err());
        assert!(identity(Esm::Racf, &gateway, &jane, id, label).is_ok());
    }
}

/// Returns a strategy that generates ordinary texts, and texts that try to add commands.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z0-9 .,_:/@#$%'-]{1,260}",
        "[a-z]{1,20}[ -~\\n\\r\\t]{0,3}[a-z0-9+*/().&;' -]{0,200}",
        "\\PC{0,40}",
        "(CN|OU|O|ST|C|X)=[ -~]{1,60}(,(OU|O|C)=[ -~]{1,60}){0,3}",
        "[a-z.'-]{1,100}@[a-z.'-]{1,100}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_text_never_adds_a_command(a in text(), b in text(), c in text()) {
        let (gateway, jane) = (user("ZWESVUSR"), user("JANE"));
        let plain_label: Label = "Zowe".parse().unwrap();
        let plain_registry: RegistryOperand = "acme".parse().unwrap();
        let plain_email: EmailOperand = "jane@acme.com".parse().unwrap();
        let plain_name: NameOperand = "CN=Jane".parse().unwrap();
        let label = c.parse().unwrap_or_else(|_| plain_label.clone());
        let email = a.parse().unwrap_or_else(|_| plain_email.clone());
        let registry = b.parse().unwrap_or_else(|_| plain_registry.clone());
        let subject = a.parse().unwrap_or_else(|_| plain_name.clone());
        let issuer = b.parse().unwrap_or_else(|_| plain_name.clone());
        for esm in Esm::ALL {
            for (id, plain, values) in [
                (
                    Identity::Email { email: &email, registry: &registry },
                    Identity::Email { email: &plain_email, registry: &plain_registry },
                    [email.as_str(), registry.as_str(), label.as_str()],
                ),
                (
                    Identity::Certificate { subject: &subject, issuer: Some(&issuer) },
                    Identity::Certificate { subject: &plain_name, issuer: Some(&plain_name) },
                    [subject.as_str(), issuer.as_str(), label.as_str()],
                ),
            ] {
                let Ok(got) = identity(esm, &gateway, &jane, id, &label) else {
                    prop_assert!(values.iter().any(|value| value.contains('\'')));
                    continue;
                };
                let plain = identity(esm, &gateway, &jane, plain, &plain_label).unwrap();
                let (got, plain) = (submitted(&got), submitted(&plain));
                prop_assert_eq!(got.len(), plain.len());
                let mut different = 0;
                for (got, plain) in got.iter().zip(&plain) {
                    if got == plain {
                        continue;
                    }
                    different += 1;
                    // At most one command may differ. This command must contain all input texts.
                    let verb = |command: &str| command.split(' ').next().unwrap().to_owned();
                    prop_assert_eq!(verb(got), verb(plain));
                    let parentheses = |c| got.matches(c).count();
                    prop_assert_eq!(parentheses('('), plain.matches('(').count());
                    prop_assert_eq!(parentheses(')'), plain.matches(')').count());
                    for value in values {
                        let value = if esm == Esm::Racf { value.replace('\'', "''") } else { value.to_owned() };
                        prop_assert!(got.contains(&value), "{} in {}", value, got);
                    }
                }
                prop_assert!(different <= 1);
            }
        }
    }

    #[test]
    fn a_distinguished_name_keeps_its_number_of_parts(
        parts in prop::collection::vec("[A-Za-z0-9][A-Za-z0-9 .:/-]{0,10}[a-z]", 1..5)
    ) {
        let written: Vec<_> = parts.iter().map(|value| format!("OU={value}")).collect();
        let name: NameOperand = match written.join(",").parse() {
            Ok(name) => name,
            Err(_) => return Ok(()),
        };
        prop_assert_eq!(name.as_str().matches('=').count(), parts.len());
        prop_assert_eq!(name.as_str(), written.join("."));
    }
}
