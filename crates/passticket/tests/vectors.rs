//! Generates and evaluates the tickets of 400 test vectors. Two other implementations have computed the same tickets.
//! These implementations are independent of this crate and of each other.

#![expect(clippy::unwrap_used, reason = "test helpers may panic")]

use std::time::Duration;

use passticket::{Algorithm, Applid, KeyProfile, PassTicket, UserId, clock::Timestamp};
use serde_json::Value;

struct Vector {
    user: String,
    applid: String,
    algorithm: Algorithm,
    key: String,
    time: Timestamp,
    ticket: String,
}

fn vectors() -> Vec<Vector> {
    let json: Value = serde_json::from_str(include_str!("vectors/passticket.json")).unwrap();
    let all = ["legacy", "enhanced"].map(|family| json[family].as_array().unwrap());
    let vectors: Vec<_> = all
        .into_iter()
        .flatten()
        .map(|vector| {
            let text = |name: &str| vector[name].as_str().unwrap().to_owned();
            Vector {
                user: text("user"),
                applid: text("applid"),
                algorithm: match vector["type"].as_str() {
                    None => Algorithm::Legacy,
                    Some("UPPER") => Algorithm::EnhancedUpper,
                    Some("MIXED") => Algorithm::EnhancedMixed,
                    Some(other) => panic!("unknown type {other}"),
                },
                key: text("key"),
                time: Timestamp::from_secs(vector["time"].as_u64().unwrap()),
                ticket: text("ticket"),
            }
        })
        .collect();
    assert_eq!(vectors.len(), 400);
    vectors
}

#[test]
fn all_vectors_are_generated_and_evaluated() {
    for Vector { user, applid, algorithm, key, time, ticket } in vectors() {
        let inputs = [
            (user.clone(), applid.clone(), key.clone()),
            (user.to_lowercase(), applid.to_lowercase(), key.to_lowercase()),
        ];
        for (user, applid, key) in inputs {
            let context = format!("{algorithm} {user} {applid} {time:?}");
            let user = UserId::new(&user).unwrap();
            let applid = Applid::new(&applid).unwrap();
            let profile =
                KeyProfile::from_hex(applid, algorithm, &key).unwrap().with_window(Duration::ZERO);
            assert_eq!(profile.generate(&user, time).unwrap().expose(), ticket, "{context}");

            let ticket = PassTicket::parse(&ticket).unwrap();
            let evaluated = profile.evaluate(&user, &ticket, time).expect(&context);
            assert_eq!(evaluated.generated_at(), time, "{context}");
            assert_eq!(evaluated.age_secs(), 0, "{context}");

            let tickets = profile.for_user(&user).unwrap();
            assert_eq!(tickets.generate(time).unwrap(), ticket, "{context}");
        }
    }
}
