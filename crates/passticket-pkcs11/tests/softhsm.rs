//! Keys in tokens of SoftHSM.
//!
//! SoftHSM reads the directory of its tokens from the environment when it is initialized. So each test runs in a
//! process of its own: the test starts this test binary again, with the name of the test.

#![expect(clippy::unwrap_used, reason = "test helpers may panic")]

use std::{
    env,
    path::Path,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use passticket::{
    Algorithm, Applid, EnhancedType, GenerateError, KeyProfile, KeyProfiles, KeySource, KeyThreads,
    LocalGenerator, PassTicketGenerator, Replay, UserId,
    clock::{ManualClock, Timestamp},
};
use passticket_pkcs11::{
    KeyLabel, KeyValue, Pin, Pkcs11Error, Pkcs11Key, Token, TokenKey, TokenLabel,
};
use serde_json::Value;
use test_support::{
    PATIENCE,
    softhsm::{CONFIGURATION, PIN, SoftHsm},
};

/// Runs `test` in a child process, with a token `PTKT`.
fn with_token(name: &str, test: impl FnOnce(&SoftHsm)) {
    const CHILD: &str = "PASSTICKET_PKCS11_CHILD";
    if env::var_os(CHILD).is_some() {
        let _end = End;
        return test(&SoftHsm::of_parent());
    }
    let Some(hsm) = SoftHsm::new() else { return };
    let hsm = hsm.with_token("PTKT");
    let child = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .env(CONFIGURATION, hsm.configuration())
        .output()
        .unwrap();
    let text = [child.stdout, child.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(child.status.success() && text[0].contains("1 passed"), "{}\n{}", text[0], text[1]);
}

/// Ends the use of tokens when it is dropped, also if the test fails.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        assert!(passticket_pkcs11::end(PATIENCE));
    }
}

fn token(hsm: &SoftHsm) -> Token {
    token_with_pin(hsm, PIN)
}

fn token_with_pin(hsm: &SoftHsm, pin: &str) -> Token {
    let pin = Pin::parse(pin.as_bytes()).unwrap();
    Token::new(hsm.module(), TokenLabel::new("PTKT").unwrap(), pin)
}

fn label(text: &str) -> KeyLabel {
    KeyLabel::new(text).unwrap()
}

fn key(token: &Token, text: &str) -> TokenKey {
    TokenKey::new(token.clone(), label(text))
}

fn source(token: &Token, text: &str) -> Pkcs11Key {
    Pkcs11Key::new(key(token, text), EnhancedType::Mixed)
}

fn user() -> UserId {
    UserId::new("IBMUSER").unwrap()
}

fn applid() -> Applid {
    Applid::new("IZUDFLT").unwrap()
}

const KEY: &str = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F\
                   202122232425262728292A2B2C2D2E2F303132333435363738393A3B3C3D3E3F";

fn import(token: &Token, text: &str) {
    token.import(&label(text), &KeyValue::from_hex(KEY).unwrap()).unwrap();
}

#[test]
fn tickets_equal_those_of_keys_in_memory() {
    with_token("tickets_equal_those_of_keys_in_memory", |hsm| {
        let json = include_str!("../../passticket/tests/vectors/passticket.json");
        let json: Value = serde_json::from_str(json).unwrap();
        let token = token(hsm);
        let vectors = json["enhanced"].as_array().unwrap().iter().enumerate();
        // A token with many keys is slow, so the test imports only the key of every ninth vector.
        for (i, vector) in vectors.step_by(9) {
            let text = |name: &str| vector[name].as_str().unwrap();
            let alphabet = match text("type") {
                "UPPER" => EnhancedType::Upper,
                _ => EnhancedType::Mixed,
            };
            // SoftHSM takes keys of 64 bytes or more. HMAC itself pads a short key with zeros, so a padded key gives
            // the same MACs.
            let hex = format!("{:0<128}", text("key"));
            let label = label(&format!("key {i}"));
            token.import(&label, &KeyValue::from_hex(&hex).unwrap()).unwrap();
            let key = Pkcs11Key::new(TokenKey::new(token.clone(), label), alphabet);
            let profile = KeyProfile::from_source(Applid::new(text("applid")).unwrap(), key);
            let time = Timestamp::from_secs(vector["time"].as_u64().unwrap());
            let user = UserId::new(text("user")).unwrap();
            let ticket = profile.generate(&user, time).unwrap();
            assert_eq!(ticket.expose(), text("ticket"), "{i}");
            assert_eq!(profile.evaluate(&user, &ticket, time).unwrap().age_secs(), 0, "{i}");
        }
    });
}

#[test]
fn no_key_is_on_disk_in_clear_and_none_can_be_read() {
    with_token("no_key_is_on_disk_in_clear_and_none_can_be_read", |hsm| {
        let token = token(hsm);
        import(&token, "K");
        token.generate(&label("made"), 64).unwrap();
        key(&token, "made").check().unwrap();
        let value: Vec<u8> = (0..64).collect();
        let stored = hsm.stored_bytes();
        assert!(stored.len() > 1000);
        assert!(!stored.windows(16).any(|part| value.windows(16).any(|it| it == part)));
        let module = hsm.module().to_str().unwrap();
        let read = ["--module", module, "--login", "--pin", PIN, "--token-label", "PTKT"];
        let value = ["--read-object", "--type", "secrkey", "--label", "K"];
        if let Ok(output) = Command::new("pkcs11-tool").args(read).args(value).output() {
            assert!(!output.status.success(), "{output:?}");
        }
    });
}

#[test]
fn a_key_is_found_only_if_its_label_is_unique() {
    with_token("a_key_is_found_only_if_its_label_is_unique", |hsm| {
        let token = token(hsm);
        let error = key(&token, "K").check().unwrap_err();
        assert!(matches!(error, Pkcs11Error::NoKey { .. }), "{error}");
        import(&token, "K");
        let again = token.import(&label("K"), &KeyValue::from_hex(KEY).unwrap()).unwrap_err();
        assert!(matches!(again, Pkcs11Error::LabelTaken { .. }), "{again}");
        let again = token.generate(&label("K"), 64).unwrap_err();
        assert!(matches!(again, Pkcs11Error::LabelTaken { .. }), "{again}");
        let other = self::token(hsm);
        key(&other, "K").check().unwrap();
        // The error of one key does not stop the other keys of the token.
        let missing = key(&other, "MISSING");
        assert!(missing.check().is_err());
        assert!(other.problem().unwrap().to_string().contains("MISSING"));
        key(&other, "K").check().unwrap();
        // Another program adds a second key with this label.
        let module = hsm.module().to_str().unwrap();
        let tool = ["--module", module, "--login", "--pin", PIN, "--token-label", "PTKT"];
        let make = ["--keygen", "--key-type", "GENERIC:64", "--label", "K", "--sensitive"];
        if Command::new("pkcs11-tool")
            .args(tool)
            .args(make)
            .output()
            .is_ok_and(|it| it.status.success())
        {
            let error = key(&self::token(hsm), "K").check().unwrap_err();
            assert!(matches!(error, Pkcs11Error::SeveralKeys { .. }), "{error}");
        }
    });
}

#[test]
fn a_key_of_a_length_that_the_token_does_not_take_is_refused() {
    with_token("a_key_of_a_length_that_the_token_does_not_take_is_refused", |hsm| {
        let token = token(hsm);
        let short = KeyValue::from_hex(&KEY[..64]).unwrap();
        let error = token.import(&label("K"), &short).unwrap_err();
        assert!(error.to_string().contains("takes keys of 64 to 512 bytes"), "{error}");
    });
}

#[test]
fn a_module_is_not_finalized_while_another_thread_has_a_session() {
    with_token("a_module_is_not_finalized_while_another_thread_has_a_session", |hsm| {
        import(&token(hsm), "K");
        // Each call uses a session of its own. When no thread has a session, the module is finalized.
        let use_sessions = || {
            let token = token(hsm);
            for _ in 0..500 {
                let value = KeyValue::from_hex(KEY).unwrap();
                let error = token.import(&label("K"), &value).unwrap_err();
                assert!(matches!(error, Pkcs11Error::LabelTaken { .. }), "{error}");
            }
        };
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(use_sessions);
            }
        });
    });
}

#[test]
fn a_missing_module_or_token_is_an_error_with_a_remedy() {
    with_token("a_missing_module_or_token_is_an_error_with_a_remedy", |hsm| {
        let pin = || Pin::parse(PIN.as_bytes()).unwrap();
        let missing = Token::new(Path::new("/no/such.so"), TokenLabel::new("PTKT").unwrap(), pin());
        let error = key(&missing, "K").check().unwrap_err();
        assert!(error.to_string().contains("/no/such.so cannot be loaded"), "{error}");
        let other = Token::new(hsm.module(), TokenLabel::new("OTHER").unwrap(), pin());
        let error = key(&other, "K").check().unwrap_err();
        assert!(error.to_string().contains("has no token OTHER (it has: PTKT)"), "{error}");
    });
}

#[test]
fn a_refused_pin_is_not_tried_again() {
    with_token("a_refused_pin_is_not_tried_again", |hsm| {
        import(&token(hsm), "K");
        let wrong = token_with_pin(hsm, "0000");
        for _ in 0..2 {
            let error = key(&wrong, "K").check().unwrap_err();
            assert!(matches!(error, Pkcs11Error::PinRefused { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains("CKR_PIN_INCORRECT") && !text.contains("0000"), "{text}");
        }
        // If the wrong PIN were tried again while another session of this process is logged in, the token would accept
        // it.
        key(&token(hsm), "K").check().unwrap();
        assert!(key(&wrong, "K").check().is_err());
        let error = KeySource::compute(&source(&wrong, "K"), b"x").unwrap_err();
        assert_eq!(error.retry_after(), None);
    });
}

#[tokio::test]
async fn a_generator_makes_tickets_on_the_threads_of_the_token() {
    let runtime = tokio::runtime::Handle::current();
    with_token("a_generator_makes_tickets_on_the_threads_of_the_token", |hsm| {
        let token = token(hsm);
        import(&token, "K");
        let memory = KeyProfile::from_hex(applid(), Algorithm::EnhancedMixed, KEY).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
        for replay in [Replay::Allowed, Replay::Protected] {
            let profile =
                KeyProfile::from_source(applid(), source(&token, "K")).with_replay(replay);
            let profiles = KeyProfiles::new([profile]).unwrap();
            let generator = LocalGenerator::one_shot(profiles)
                .with_ticket_cache(10.try_into().unwrap())
                .with_clock(clock.clone());
            assert!(generator.try_generate_now(&user(), &applid()).is_none());
            let ticket = thread::scope(|scope| {
                let ticket = || runtime.block_on(generator.generate(&user(), &applid()));
                scope.spawn(ticket).join().unwrap().unwrap()
            });
            assert_eq!(
                ticket,
                memory.generate(&user(), Timestamp::from_secs(1_700_000_000)).unwrap()
            );
            // A cached ticket needs no thread.
            let cached = generator.try_generate_now(&user(), &applid());
            assert_eq!(cached.map(Result::unwrap), (replay == Replay::Allowed).then_some(ticket));
        }
    });
}

#[test]
fn a_removed_token_causes_errors_until_it_is_back() {
    with_token("a_removed_token_causes_errors_until_it_is_back", |hsm| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let token = token(hsm);
        import(&token, "K");
        let profile = KeyProfile::from_source(applid(), source(&token, "K"));
        let profile = profile.with_replay(Replay::Allowed);
        let generator = LocalGenerator::new(KeyProfiles::new([profile]).unwrap());
        let ticket = || runtime.block_on(generator.generate(&user(), &applid()));
        let until = |is_good: fn(&Result<passticket::PassTicket, GenerateError>) -> bool| {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let ticket = ticket();
                if is_good(&ticket) {
                    return ticket;
                }
                assert!(Instant::now() < deadline, "{ticket:?}");
                thread::sleep(Duration::from_millis(20));
            }
        };
        ticket().unwrap();
        for _ in 0..3 {
            hsm.remove_tokens();
            let error = until(Result::is_err).unwrap_err();
            assert!(error.is_unavailable(), "{error}");
            assert_eq!(error.retry_after(), Some(Duration::from_secs(1)), "{error}");
            assert!(token.problem().is_some());
            hsm.bring_tokens_back();
            until(Result::is_ok).unwrap();
            assert_eq!(token.problem(), None);
        }
    });
}

/// A key of a slow token: each computation advances the clock of the test by the `Duration`.
#[derive(Debug)]
struct Slow(Pkcs11Key, Arc<ManualClock>, Duration);

impl KeySource for Slow {
    fn algorithm(&self) -> Algorithm {
        self.0.algorithm()
    }

    fn compute(&self, input: &[u8]) -> Result<[u8; 8], passticket::KeySourceError> {
        self.1.advance(self.2);
        self.0.compute(input)
    }

    fn threads(&self) -> Option<Arc<dyn KeyThreads>> {
        self.0.threads()
    }
}

#[test]
fn a_ticket_that_became_too_old_in_the_token_is_not_used() {
    with_token("a_ticket_that_became_too_old_in_the_token_is_not_used", |hsm| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let token = token(hsm);
        import(&token, "K");
        // A ticket needs seven computations. With a window of 60 s, they may take at most 30 s.
        for (millis, is_good) in [(4_000, true), (5_000, false)] {
            for replay in [Replay::Allowed, Replay::Protected] {
                let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
                let slow = Slow(source(&token, "K"), clock.clone(), Duration::from_millis(millis));
                let profile = KeyProfile::from_source(applid(), slow).with_replay(replay);
                let generator = LocalGenerator::one_shot(KeyProfiles::new([profile]).unwrap())
                    .with_clock(clock);
                let ticket = runtime.block_on(generator.generate(&user(), &applid()));
                assert_eq!(ticket.is_ok(), is_good, "{millis} {replay:?} {ticket:?}");
                if let Err(error) = ticket {
                    assert!(
                        error.is_unavailable() && error.to_string().contains("took so long"),
                        "{error}"
                    );
                }
            }
        }
    });
}
