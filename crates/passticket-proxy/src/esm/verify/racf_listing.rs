//! Reads the output of RACF's commands `SETROPTS LIST`, `RLIST` and `LISTUSER`, and of the console command `D T`.
//!
//! docs/reference/security-products.md#display-commands shows the forms of the lines.

use std::collections::HashSet;

use super::listing::{Listing, words};

#[derive(Default)]
pub(super) struct RacfListing {
    pub(super) options: Options,
    pub(super) profiles: Vec<Profile>,
    /// Names of profiles that RACF did not find.
    pub(super) no_profile: HashSet<String>,
    pub(super) users: Vec<User>,
    /// User ids that RACF did not find.
    pub(super) no_user: HashSet<String>,
    /// The GMT time of `D T`, in seconds since 1970.
    pub(super) clock: Option<u64>,
}

/// The output of `SETROPTS LIST`. `None` means that the listing does not show the option.
#[derive(Default)]
pub(super) struct Options {
    pub(super) active: Option<HashSet<String>>,
    pub(super) generic: Option<HashSet<String>>,
    pub(super) raclist: Option<HashSet<String>>,
    pub(super) mixed_case: Option<bool>,
    pub(super) revoke: Option<Revoke>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Revoke {
    Never,
    /// RACF permits this number of wrong passwords, and revokes the user at the next wrong password.
    After(u32),
}

/// The output of `RLIST` for one profile.
#[derive(Default)]
pub(super) struct Profile {
    pub(super) class: String,
    pub(super) name: String,
    pub(super) universal_access: Option<String>,
    pub(super) warning: Option<bool>,
    /// The application data. `None` means that the listing does not show it.
    pub(super) application_data: Option<String>,
    pub(super) legacy_key: Option<LegacyKey>,
    /// Whether a line names the label of the enhanced key.
    pub(super) enhanced_key: bool,
    pub(super) mixed: Option<bool>,
    pub(super) timeout: Option<u32>,
    pub(super) replay_allowed: Option<bool>,
    /// User ids or group names, and their access. `None` means that the listing does not show the access list.
    pub(super) access: Option<Vec<(String, String)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LegacyKey {
    /// The key is in ICSF.
    Icsf,
    Masked,
}

/// The output of `LISTUSER`.
#[derive(Default)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) protected: bool,
    pub(super) revoked: bool,
    /// The names of the user's MFA factors, each with `true` if the factor is active.
    pub(super) factors: Vec<(String, bool)>,
}

/// The part of the output to which the next lines belong.
#[derive(Clone, Copy, PartialEq)]
enum Section {
    Other,
    /// `Active`, `Generic` and `Raclist` are lists of classes in the output of `SETROPTS LIST`.
    Active,
    Generic,
    Raclist,
    /// The heading `CLASS NAME` of `RLIST`.
    ProfileName,
    /// Owner and universal access.
    Base,
    ApplicationData,
    Signon,
    Access,
    User,
}

/// The first words of commands. A copied terminal session also contains the commands.
const COMMANDS: [&str; 10] =
    ["SETROPTS", "SETR", "RLIST", "RL", "LISTUSER", "LU", "READY", "TSO", "D", "DISPLAY"];

impl RacfListing {
    pub(super) fn parse(listing: &Listing) -> Self {
        let mut parsed = Self::default();
        let mut section = Section::Other;
        for line in listing.lines() {
            section = parsed.line(section, line);
        }
        // The message about wrong passwords may be on one or two lines.
        let text = listing.lines().collect::<Vec<_>>().join(" ");
        parsed.options.revoke = revoke(&text);
        parsed
    }

    /// Reads a line, and returns the section of the next line.
    fn line(&mut self, section: Section, line: &str) -> Section {
        if let Some(next) = self.heading(line) {
            return next;
        }
        self.anywhere(line);
        let first = line.split_whitespace().next();
        let ruler = !line.is_empty() && line.bytes().all(|b| matches!(b, b'-' | b' '));
        match section {
            _ if ruler => section,
            Section::Active | Section::Generic | Section::Raclist => {
                let is_class = |word: &str| word.len() <= 8 && word.bytes().all(is_name_byte);
                if first.is_none_or(|word| COMMANDS.contains(&word))
                    || !line.split_whitespace().all(is_class)
                {
                    return Section::Other;
                }
                self.add_classes(section, line);
                section
            }
            Section::ProfileName => {
                let mut words = line.split_whitespace();
                let (Some(class), Some(name)) = (words.next(), words.next()) else {
                    return section;
                };
                let (class, name) = (class.to_owned(), name.to_owned());
                self.profiles.push(Profile { class, name, ..Profile::default() });
                Section::Other
            }
            Section::Base => {
                let words: Vec<_> = line.split_whitespace().collect();
                if let (Some(profile), [_, _, access, .., warning]) =
                    (self.profiles.last_mut(), &words[..])
                {
                    profile.universal_access = Some((*access).to_owned());
                    profile.warning = Some(*warning != "NO");
                }
                Section::Other
            }
            Section::ApplicationData if line.is_empty() => section,
            Section::ApplicationData => {
                if let Some(profile) = self.profiles.last_mut() {
                    profile.application_data = Some(line.to_owned());
                }
                Section::Other
            }
            Section::Access => {
                let mut words = line.split_whitespace();
                let (Some(user), Some(access)) = (words.next(), words.next()) else {
                    return Section::Other;
                };
                let list = self.profiles.last_mut().and_then(|profile| profile.access.as_mut());
                if let Some(list) = list.filter(|_| is_level(access)) {
                    list.push((user.to_owned(), access.to_owned()));
                    return section;
                }
                Section::Other
            }
            Section::Signon if first.is_none() => section,
            Section::Signon | Section::User | Section::Other => section,
        }
    }

    /// Returns the section that the line begins.
    fn heading(&mut self, line: &str) -> Option<Section> {
        let lists = [
            ("ACTIVE CLASSES =", Section::Active),
            ("GENERIC PROFILE CLASSES =", Section::Generic),
            ("SETR RACLIST CLASSES =", Section::Raclist),
        ];
        for (heading, section) in lists {
            if let Some(classes) = line.strip_prefix(heading) {
                self.add_classes(section, classes);
                return Some(section);
            }
        }
        let words: Vec<_> = line.split_whitespace().collect();
        let section = match words[..] {
            ["CLASS", "NAME"] => Section::ProfileName,
            ["LEVEL", "OWNER", "UNIVERSAL", ..] => Section::Base,
            ["APPLICATION", "DATA"] => Section::ApplicationData,
            ["SSIGNON", "INFORMATION"] => Section::Signon,
            ["USER" | "ID", "ACCESS"] | ["USER" | "ID", "ACCESS", "ACCESS", "COUNT"] => {
                let profile = self.profiles.last_mut()?;
                profile.access = Some(Vec::new());
                Section::Access
            }
            // These lines begin the conditional access list, or another part of a profile that this parser does not
            // read.
            ["USER" | "ID", "ACCESS", ..]
            | ["INSTALLATION", "DATA"]
            | ["AUDITING" | "NOTIFY"]
            | [_, "INFORMATION"] => Section::Other,
            [user, ..] if user.starts_with("USER=") => {
                let name = user["USER=".len()..].to_owned();
                self.users.push(User { name, ..User::default() });
                Section::User
            }
            _ => return None,
        };
        Some(section)
    }

    fn add_classes(&mut self, section: Section, classes: &str) {
        let options = &mut self.options;
        let set = match section {
            Section::Active => &mut options.active,
            Section::Generic => &mut options.generic,
            _ => &mut options.raclist,
        };
        let set = set.get_or_insert_default();
        set.extend(classes.split_whitespace().map(str::to_owned));
    }

    /// Reads a line whose meaning does not depend on the section. If its first words are not known, the line may be
    /// about the keys of the last profile.
    fn anywhere(&mut self, line: &str) {
        let words: Vec<_> = words(line).collect();
        match words[..] {
            ["ICH13003I", name, "NOT", "FOUND", ..] => {
                self.no_profile.insert(name.to_owned());
            }
            ["ICH30001I", .., name] => {
                self.no_user.insert(name.to_owned());
            }
            ["IEE136I", ..] => self.clock = gmt(line).or(self.clock),
            ["MIXED", "CASE", "PASSWORD", "SUPPORT", "IS", ref rest @ ..] => {
                self.options.mixed_case = match rest {
                    ["IN", "EFFECT", ..] => Some(true),
                    ["NOT", "IN", "EFFECT", ..] => Some(false),
                    _ => self.options.mixed_case,
                };
            }
            ["ATTRIBUTES", ref attributes @ ..] => {
                if let Some(user) = self.users.last_mut() {
                    user.protected |= attributes.contains(&"PROTECTED");
                    user.revoked |= attributes.contains(&"REVOKED");
                }
            }
            // `FACTOR TAGS =` does not name a factor.
            ["FACTOR", name] if !line.ends_with('=') => {
                if let Some(user) = self.users.last_mut() {
                    user.factors.push((name.to_owned(), false));
                }
            }
            ["STATUS", status] => {
                let factor = self.users.last_mut().and_then(|user| user.factors.last_mut());
                if let Some((_, active)) = factor {
                    *active = status == "ACTIVE";
                }
            }
            _ => {
                if let Some(profile) = self.profiles.last_mut() {
                    profile.signon(line, &words);
                }
            }
        }
    }
}

impl Profile {
    pub(super) fn is_generic(&self) -> bool {
        self.name.contains(['*', '%', '&'])
    }

    /// Reads a line about the keys.
    fn signon(&mut self, line: &str, words: &[&str]) {
        if line.starts_with("LEGACY PASSTICKET:") || line.ends_with("DATA NOT DISPLAYABLE") {
            self.legacy_key = legacy_key(line).or(self.legacy_key);
        }
        if let Some(rest) = line.strip_prefix("ENHANCED PASSTICKET:") {
            let value = rest.rsplit(['=', ':', ' ']).next().unwrap_or_default();
            if rest.contains("TIMEOUT") {
                self.timeout = number(value).or(self.timeout);
            } else if rest.contains("REPLAY") {
                self.replay_allowed = yes_or_no(value).or(self.replay_allowed);
            } else if rest.contains("TYPE") {
                self.mixed = mixed(value).or(self.mixed);
            } else if rest.contains("LABEL") {
                self.enhanced_key = true;
            }
        }
        // These are the names of the fields in the RACF interfaces IRRXUTIL and R_admin.
        if let [name, value] = *words {
            match name {
                "KEYMASK" => self.legacy_key = Some(LegacyKey::Masked),
                "KEYCRYPT" | "KEYLABEL" => self.legacy_key = Some(LegacyKey::Icsf),
                "PTKEYLAB" => self.enhanced_key = true,
                "PTTIMEO" => self.timeout = number(value).or(self.timeout),
                "PTREPLAY" => self.replay_allowed = yes_or_no(value).or(self.replay_allowed),
                "PTTYPE" => self.mixed = mixed(value).or(self.mixed),
                _ => {}
            }
        }
    }
}

fn legacy_key(line: &str) -> Option<LegacyKey> {
    if line.contains("KEYMASKED") {
        Some(LegacyKey::Masked)
    } else if line.contains("KEYENCRYPTED") || line.contains("LABEL") {
        Some(LegacyKey::Icsf)
    } else {
        None
    }
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

fn yes_or_no(text: &str) -> Option<bool> {
    match text {
        "YES" => Some(true),
        "NO" => Some(false),
        _ => None,
    }
}

fn mixed(text: &str) -> Option<bool> {
    match text {
        "MIXED" => Some(true),
        "UPPER" => Some(false),
        _ => None,
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"#@$".contains(&byte)
}

fn is_level(word: &str) -> bool {
    matches!(word, "NONE" | "EXECUTE" | "READ" | "UPDATE" | "CONTROL" | "ALTER")
}

/// Finds the number of wrong passwords that RACF permits.
fn revoke(text: &str) -> Option<Revoke> {
    if text.contains("USERIDS NOT BEING AUTOMATICALLY REVOKED") {
        return Some(Revoke::Never);
    }
    let (before, _) = text.split_once("CONSECUTIVE UNSUCCESSFUL PASSWORD ATTEMPTS")?;
    number(before.split_whitespace().next_back()?).map(Revoke::After)
}

/// Reads the GMT time of message IEE136I: `UTC: TIME=hh.mm.ss DATE=yyyy.ddd`.
fn gmt(line: &str) -> Option<u64> {
    let (_, gmt) = line.split_once("UTC:").or_else(|| line.split_once("GMT:"))?;
    let field = |name| gmt.split_once(name)?.1.split_whitespace().next();
    let numbers = |text: &str| -> Option<Vec<u64>> {
        text.split('.').map(|number| number.parse::<u16>().ok().map(u64::from)).collect()
    };
    let (time, date) = (numbers(field("TIME=")?)?, numbers(field("DATE=")?)?);
    let ([hours @ 0..24, minutes @ 0..60, seconds @ 0..61], [year @ 1970..=9999, day @ 1..=366]) =
        (&time[..], &date[..])
    else {
        return None;
    };
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let days = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969) + day - 1;
    Some(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> RacfListing {
        RacfListing::parse(&Listing::new(text.as_bytes()))
    }

    #[test]
    fn a_class_list_ends_before_the_next_heading_or_command() {
        for (after, want) in [
            ("                  PTKTDATA", true),
            ("", false),
            ("RLIST PTKTDATA IZUDFLT SSIGNON ALL", false),
            ("READY\nPTKTDATA", false),
            ("GLOBAL=YES RACLIST ONLY =  PTKTDATA", false),
            ("                  PTKTVAL PTKTDAT", false),
            ("AUTOMATIC DATASET PROTECTION PTKTDATA", false),
        ] {
            let text = format!("SETR RACLIST CLASSES =  ACCTNUM OPERCMDS\n{after}\n");
            let raclist = parse(&text).options.raclist.unwrap();
            assert_eq!(raclist.contains("PTKTDATA"), want, "{after}");
            assert!(raclist.contains("OPERCMDS"));
        }
        assert!(parse("").options.raclist.is_none());
    }

    #[test]
    fn the_lines_about_keys_are_read_in_their_known_forms() {
        let profile = |lines: &str| {
            let text = format!("CLASS NAME\n----- ----\nPTKTDATA X\n\n{lines}\n");
            parse(&text).profiles.pop().unwrap()
        };
        for (line, want) in [
            ("Legacy PassTicket: KEYENCRYPTED LABEL: IRR.SSIGNON.S", Some(LegacyKey::Icsf)),
            ("Legacy PassTicket: KEYMASKED", Some(LegacyKey::Masked)),
            ("KEYMASKED DATA NOT DISPLAYABLE", Some(LegacyKey::Masked)),
            ("KEYMASK=YES", Some(LegacyKey::Masked)),
            ("KEYLABEL=A.B", Some(LegacyKey::Icsf)),
            ("Legacy PassTicket: something new", None),
            ("KEYMASKED", None),
        ] {
            assert_eq!(profile(line).legacy_key, want, "{line}");
        }
        for (line, want) in [
            ("Enhanced PassTicket: Timeout = 00000060", Some(60)),
            ("PTTIMEO=600", Some(600)),
            ("Enhanced PassTicket: Timeout = xx", None),
            ("Enhanced PassTicket: Timeout = 99999999999", None),
            ("Timeout = 60", None),
        ] {
            assert_eq!(profile(line).timeout, want, "{line}");
        }
        for (line, want) in [
            ("Enhanced PassTicket: Replay allowed = NO", Some(false)),
            ("Enhanced PassTicket: Replay allowed = YES", Some(true)),
            ("PTREPLAY=YES", Some(true)),
            ("Enhanced PassTicket: Replay allowed = xx", None),
        ] {
            assert_eq!(profile(line).replay_allowed, want, "{line}");
        }
        let profile =
            profile("Enhanced PassTicket: Type = MIXED\nEnhanced PassTicket: Keylabel: A");
        assert_eq!((profile.mixed, profile.enhanced_key), (Some(true), true));
    }

    #[test]
    fn the_number_of_wrong_passwords_is_read_from_one_or_two_lines() {
        let tail = "A USERID WILL BE REVOKED.";
        let attempts = "CONSECUTIVE UNSUCCESSFUL PASSWORD ATTEMPTS,";
        for (text, want) in [
            (format!("  AFTER   2 {attempts}\n      {tail}"), Some(Revoke::After(2))),
            (format!("AFTER 254 {attempts} {tail}"), Some(Revoke::After(254))),
            ("USERIDS NOT BEING AUTOMATICALLY REVOKED.".to_owned(), Some(Revoke::Never)),
            (format!("AFTER X {attempts}"), None),
            (String::new(), None),
        ] {
            assert_eq!(parse(&text).options.revoke, want, "{text}");
        }
    }

    #[test]
    fn the_clock_of_d_t_is_gmt() {
        let clock = |time: &str| {
            parse(&format!("IEE136I LOCAL: TIME=14.00.00 DATE=2026.334  UTC: {time}")).clock
        };
        assert_eq!(clock("TIME=00.00.00 DATE=1970.001"), Some(0));
        assert_eq!(clock("TIME=23.59.59 DATE=2000.366"), Some(978_307_199));
        assert_eq!(clock("TIME=13.00.01 DATE=2026.334"), Some(1_796_043_601));
        for wrong in ["TIME=24.00.00 DATE=2026.334", "TIME=1.2 DATE=2026.334", "TIME=00.00.00", ""]
        {
            assert_eq!(clock(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn access_lists_and_users_are_read() {
        let listing = parse(
            "CLASS      NAME\n-----      ----\nPTKTDATA   IRRPTAUTH.X.* (G)\n\n\
             LEVEL  OWNER      UNIVERSAL ACCESS  YOUR ACCESS  WARNING\n\
             -----  --------   ----------------  -----------  -------\n\
             \x2000    SECADM          READ              ALTER    YES\n\n\
             USER      ACCESS   ACCESS COUNT\n----      ------   ------ -----\n\
             ZWESVUSR  UPDATE      000000\nJANE  READ 000000\n\n\
             ID ACCESS ACCESS COUNT CLASS ENTITY NAME\n-- -- --\nNO ENTRIES IN CONDITIONAL ACCESS LIST\n\
             USER=JANE  NAME=UNKNOWN  OWNER=SYS1\n ATTRIBUTES=PROTECTED\n ATTRIBUTES=REVOKED\n\
             \x20  CONNECT ATTRIBUTES=NONE\n FACTOR = AZFPTKT1\n STATUS = ACTIVE\n FACTOR TAGS =\n FACTOR = AZFTOTP1\n\
             ICH13003I Y NOT FOUND\nICH30001I UNABLE TO LOCATE USER    ENTRY NOBODY\n",
        );
        let [profile] = &listing.profiles[..] else { panic!() };
        assert!(profile.is_generic() && profile.name == "IRRPTAUTH.X.*");
        assert_eq!(profile.universal_access.as_deref(), Some("READ"));
        assert_eq!(profile.warning, Some(true));
        let access = |user: &str, level: &str| (user.to_owned(), level.to_owned());
        let expected = vec![access("ZWESVUSR", "UPDATE"), access("JANE", "READ")];
        assert_eq!(profile.access.as_ref(), Some(&expected));
        let [user] = &listing.users[..] else { panic!() };
        assert!(user.name == "JANE" && user.protected && user.revoked);
        let factor = |name: &str, active| (name.to_owned(), active);
        assert_eq!(user.factors, [factor("AZFPTKT1", true), factor("AZFTOTP1", false)]);
        assert!(listing.no_profile.contains("Y") && listing.no_user.contains("NOBODY"));
    }
}
