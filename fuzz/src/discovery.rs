//! Fuzz target for answers of Eureka, the registry of services.

use tower_passticket::eureka::{Action, Document, InstanceStatus, Registry};

/// The input is the JSON of the whole registry, a line with only `---`, and the JSON of a delta (the last changes). The
/// delta may be absent.
pub(crate) fn eureka(data: &[u8]) {
    const LINE: &[u8] = b"\n---\n";
    let at = data.windows(LINE.len()).position(|window| window == LINE);
    let (whole, delta) = match at {
        Some(at) => (&data[..at], Some(&data[at + LINE.len()..])),
        None => (data, None),
    };
    let Some(document) = read(whole) else { return };
    let ids: Vec<_> = document.instances().map(|(it, _)| (it.app.clone(), it.id.clone())).collect();
    let registry = document.into_registry();
    assert!(registry.len() <= ids.len() && registry.is_empty() == ids.is_empty());
    assert!(registry.instances().all(|it| ids.contains(&(it.app.clone(), it.id.clone()))));
    check_hash(&registry);
    let Some(delta) = delta.and_then(read) else { return };
    let Ok(after) = registry.apply(delta.clone()) else { return };
    assert_eq!(Some(&*after.hash_code()), delta.hash_code());
    check_hash(&after);
    // A delta contains the changes of the last minutes, so a client may apply the same change several times. The second
    // time must change nothing.
    assert_eq!(after.apply(delta.clone()).as_ref(), Ok(&after));
    let last = |id: &str, app: &str| {
        let changes = delta.instances().filter(|(it, _)| it.id == id && it.app == app);
        changes.last().map(|(_, action)| action)
    };
    for instance in after.instances() {
        assert_ne!(last(&instance.id, &instance.app), Some(Action::Deleted));
    }
}

/// Reads an answer, and checks the limits of its instances. Returns `None` if the answer is malformed.
fn read(json: &[u8]) -> Option<Document> {
    let document = Document::parse(json).ok()?;
    assert!(document.instances().count() <= 10_000);
    for (instance, _) in document.instances() {
        assert!(
            instance.id.len() <= 256 && instance.app.len() <= 256 && instance.host.len() <= 255
        );
        assert!(!instance.app.bytes().any(|b| b.is_ascii_uppercase()));
        assert!(instance.port != Some(0) && instance.secure_port != Some(0));
        let bytes: usize =
            instance.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(bytes <= 64 * 1024 && instance.metadata.len() <= 500);
    }
    Some(document)
}

/// Asserts that the hash code consists of each status and the number of its instances.
fn check_hash(registry: &Registry) {
    let sorted = [
        InstanceStatus::Down,
        InstanceStatus::OutOfService,
        InstanceStatus::Starting,
        InstanceStatus::Unknown,
        InstanceStatus::Up,
    ];
    let want = sorted.into_iter().filter_map(|status| {
        let count = registry.count(status);
        (count > 0).then(|| format!("{}_{count}_", status.as_str()))
    });
    assert_eq!(registry.hash_code(), want.collect::<String>());
}
