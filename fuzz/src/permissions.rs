//! Fuzz target for the selection of the profile that protects a resource, as in a security product such as RACF. The
//! name of a generic profile contains `%` or `*`. The name of a discrete profile contains neither.

use tower_passticket::{
    passticket::UserId,
    saf::{Access, AccessLevel, FileSaf, Profile, ProfileName, SafProvider},
};

use crate::support::{lines, ready};

/// The input is a line with the name of a resource, followed by lines with names of profiles. Each profile permits a
/// different user.
pub(crate) fn profiles(data: &[u8]) {
    let lines = lines(data, 12);
    let [resource, names @ ..] = &lines[..] else { return };
    let names: Vec<_> = names.iter().filter_map(|name| ProfileName::new(name).ok()).collect();
    let user = |i: usize| UserId::new(&format!("U{i}")).expect("a valid user id");
    for name in &names {
        assert_eq!(ProfileName::new(name.as_str()).as_ref(), Ok(name));
        let discrete = !name.as_str().contains(['%', '*']);
        assert!(!discrete || name.matches(name.as_str()));
        assert_eq!(name.matches(resource), matches(name.as_str(), resource), "{name} {resource}");
    }
    let profiles = names
        .iter()
        .enumerate()
        .map(|(i, name)| Profile::new("CLASS", name.clone()).permit(user(i), AccessLevel::Update));
    let saf = FileSaf::new(profiles.clone());
    let reversed = FileSaf::new(profiles.collect::<Vec<_>>().into_iter().rev());
    let mut granting = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let check = |saf: &FileSaf, level| ready(saf.check(&user(i), "CLASS", resource, level));
        let read = check(&saf, AccessLevel::Read);
        assert_eq!(read, check(&reversed, AccessLevel::Read));
        assert_eq!(check(&saf, AccessLevel::Control), Ok(Access::Refused));
        if read == Ok(Access::Granted) {
            assert!(name.matches(resource));
            granting.push(name.as_str());
        }
    }
    // Only the permissions of one profile name apply. If the input contains this name several times, with different
    // users, `granting` also contains the name several times. But `granting` contains no other name.
    assert!(granting.windows(2).all(|pair| pair[0] == pair[1]), "{granting:?}");
    let matching: Vec<_> = names.iter().filter(|name| name.matches(resource)).collect();
    assert_eq!(granting.is_empty(), matching.is_empty(), "{matching:?}");
    let discrete = matching.iter().find(|name| !name.as_str().contains(['%', '*']));
    if let Some(discrete) = discrete {
        assert_eq!(granting.first().copied(), Some(discrete.as_str()));
    }
}

/// Returns whether a profile name matches a resource. This is a second, simple implementation of RACF's rules for
/// general resources. It uses backtracking.
fn matches(name: &str, resource: &str) -> bool {
    let name: Vec<_> = name.split('.').collect();
    let resource: Vec<_> = resource.split('.').collect();
    qualifiers_match(&name, &resource)
}

fn qualifiers_match(name: &[&str], resource: &[&str]) -> bool {
    let [first, following @ ..] = name else { return resource.is_empty() };
    if *first == "**" {
        return (0..=resource.len()).any(|skip| qualifiers_match(following, &resource[skip..]));
    }
    let [qualifier, rest @ ..] = resource else { return false };
    let is_last = following.is_empty();
    match first.strip_suffix('*') {
        // `*` matches one qualifier. At the end of the name, `*` matches one or more qualifiers.
        Some("") if is_last => !(qualifier.is_empty() && rest.is_empty()),
        Some("") => !qualifier.is_empty() && qualifiers_match(following, rest),
        Some(start) if is_last => starts(qualifier, start),
        Some(start) => starts(qualifier, start) && qualifiers_match(following, rest),
        None => {
            first.len() == qualifier.len()
                && starts(qualifier, first)
                && qualifiers_match(following, rest)
        }
    }
}

/// Returns whether `qualifier` begins with `start`. In `start`, `%` matches any character.
fn starts(qualifier: &str, start: &str) -> bool {
    let mut bytes = qualifier.bytes();
    start.bytes().all(|want| bytes.next().is_some_and(|got| want == b'%' || want == got))
}
