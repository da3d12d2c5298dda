//! Applies a delta to a registry. A delta is the list of changes that Eureka reports.

use super::{document::Document, instance::Action, registry::Registry};

/// Why a delta cannot be used. The caller must then fetch the whole registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaError {
    /// After the delta, the hash code of the registry differs from the hash code in the delta. For example, an earlier
    /// delta was missed.
    #[error("after the delta, the registry has the hash code {got:?} instead of {want:?}")]
    Mismatch {
        /// The hash code in the delta.
        want: String,
        /// The hash code of the registry after the delta.
        got: String,
    },
    /// The delta has no hash code. Some discovery services send such a delta if deltas are disabled.
    #[error("the delta has no hash code")]
    NoHashCode,
}

impl Registry {
    /// Returns a registry with the changes of `delta`.
    ///
    /// # Errors
    /// [`DeltaError`] if the delta has no hash code, or if the hash code of the result differs from the hash code in
    /// the delta.
    pub fn apply(&self, delta: Document) -> Result<Self, DeltaError> {
        let want = delta.hash_code.ok_or(DeltaError::NoHashCode)?;
        let mut registry = self.clone();
        for (instance, action) in delta.instances {
            match action {
                Action::Added | Action::Modified => registry.insert(instance),
                Action::Deleted => registry.remove(instance),
            }
        }
        let got = registry.hash_code();
        if got == want { Ok(registry) } else { Err(DeltaError::Mismatch { want, got }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a delta from items of the form `app/id STATUS ACTION`.
    fn document(hash_code: Option<&str>, items: &[&str]) -> Document {
        let instance = |item: &&str| {
            let mut words = item.split(' ');
            let (app, id) = words.next().unwrap().split_once('/').unwrap();
            let status = words.next().unwrap();
            let action = words.next().unwrap_or("ADDED");
            format!(
                r#"{{"app":"{app}","instanceId":"{id}","status":"{status}","actionType":"{action}"}}"#
            )
        };
        let instances: Vec<_> = items.iter().map(instance).collect();
        let hash =
            hash_code.map(|hash| format!(r#""apps__hashcode":"{hash}","#)).unwrap_or_default();
        let json = format!(
            r#"{{"applications":{{{hash}"application":[{{"instance":[{}]}}]}}}}"#,
            instances.join(",")
        );
        Document::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_delta_must_lead_to_the_hash_code_of_the_registry() {
        let before = ["A/1 UP", "A/2 UP", "B/1 DOWN"];
        let mismatch = |want: &str, got: &str| {
            Err(DeltaError::Mismatch { want: want.to_owned(), got: got.to_owned() })
        };
        for (hash, delta, want) in [
            ("DOWN_1_UP_2_", vec![], Ok("a/1 UP,a/2 UP,b/1 DOWN")),
            ("DOWN_1_UP_3_", vec!["C/1 UP"], Ok("a/1 UP,a/2 UP,b/1 DOWN,c/1 UP")),
            ("DOWN_2_UP_1_", vec!["A/2 DOWN MODIFIED"], Ok("a/1 UP,a/2 DOWN,b/1 DOWN")),
            ("DOWN_1_UP_1_", vec!["A/1 UP DELETED"], Ok("a/2 UP,b/1 DOWN")),
            (
                "DOWN_1_OUT_OF_SERVICE_1_UP_1_",
                vec!["a/2 OUT_OF_SERVICE ADDED"],
                Ok("a/1 UP,a/2 OUT_OF_SERVICE,b/1 DOWN"),
            ),
            ("DOWN_1_UP_2_", vec!["X/9 UP DELETED"], Ok("a/1 UP,a/2 UP,b/1 DOWN")),
            ("UP_2_", vec!["B/1 DOWN DELETED"], Ok("a/1 UP,a/2 UP")),
            ("", vec!["A/1 UP DELETED", "A/2 UP DELETED", "B/1 UP DELETED"], Ok("")),
            ("DOWN_1_UP_4_", vec!["C/1 UP"], mismatch("DOWN_1_UP_4_", "DOWN_1_UP_3_")),
            ("", vec![], mismatch("", "DOWN_1_UP_2_")),
        ] {
            let registry = document(None, &before).into_registry();
            let after = registry.apply(document(Some(hash), &delta)).map(|after| {
                let shown = |it: &super::super::Instance| {
                    format!("{}/{} {}", it.app, it.id, it.status.as_str())
                };
                after.instances().map(shown).collect::<Vec<_>>().join(",")
            });
            assert_eq!(after, want.map(str::to_owned), "{hash} {delta:?}");
        }
        let registry = document(None, &before).into_registry();
        assert_eq!(registry.apply(document(None, &[])), Err(DeltaError::NoHashCode));
    }

    #[test]
    fn the_hash_code_is_sorted_by_status() {
        let all = ["A/1 UP", "A/2 DOWN", "A/3 STARTING", "A/4 x", "B/1 OUT_OF_SERVICE", "B/2 UP"];
        let registry = document(None, &all).into_registry();
        assert_eq!(registry.hash_code(), "DOWN_1_OUT_OF_SERVICE_1_STARTING_1_UNKNOWN_1_UP_2_");
        assert_eq!(Registry::default().hash_code(), "");
    }
}
