//! The settings of PassTickets.

use super::{
    DefaultValue::{Nothing, Required, Rule, Value},
    Setting,
    ValueKind::{Boolean, List, Mapping, Number, Path, Text, Words},
    table,
};

const CONFIGURATION: &str = "operating/configuration.md";
const NEXT_KEY: &str = "operating/passticket-keys.md#next-key";
const PKCS11: &str = "operating/pkcs11.md";
const QUALIFIED: &str = "operating/passticket-keys.md#qualified";
const REPLAY: &str = "operating/replay-protection.md";
const WINDOW: &str = "operating/replay-protection.md#window";

const ALGORITHMS: &[&str] = &["legacy", "enhanced-upper", "enhanced-mixed"];

pub(super) const SETTINGS: &[Setting] = table! {
    "ptktdata": List(&Mapping), Nothing, CONFIGURATION
        => "The PassTicket keys of the APPLIDs, like the profiles of class PTKTDATA in RACF.";
    "ptktdata[].applid": Text("APPLID"), Required, CONFIGURATION
        => "The application that accepts the PassTickets.";
    "ptktdata[].source": Words(&["key", "zowe"]), Value("key"), "operating/schemes.md#zowe-tickets"
        => "Whether the gateway makes the PassTickets with `key`, or gets them from a running Zowe.";
    "ptktdata[].algorithm": Words(ALGORITHMS), Rule("required, except with `source: zowe`"), CONFIGURATION
        => "The algorithm of the PassTickets. It must be that of the profile on z/OS.";
    "ptktdata[].key": Mapping, Rule("required, except with `source: zowe`"), CONFIGURATION
        => "Where the key is. It has exactly one of the keys `file`, `env` and `pkcs11`.";
    "ptktdata[].key.file": Path("a file with the key in hex"), Nothing, CONFIGURATION
        => "The file that contains the key.";
    "ptktdata[].key.env": Text("name of an environment variable"), Nothing, CONFIGURATION
        => "The environment variable that contains the key in hex.";
    "ptktdata[].key.pkcs11": Mapping, Nothing, PKCS11
        => "A key in a PKCS#11 token, such as a hardware security module. Only for enhanced algorithms.";
    "ptktdata[].key.pkcs11.module": Path("the PKCS#11 module"), Required, PKCS11
        => "The shared library of the token's vendor.";
    "ptktdata[].key.pkcs11.token": Text("label of a token"), Required, PKCS11
        => "The token that has the key.";
    "ptktdata[].key.pkcs11.label": Text("label of a key"), Required, PKCS11
        => "The key in the token.";
    "ptktdata[].key.pkcs11.pinFile": Path("a file with the PIN"), Required, PKCS11
        => "The file that contains the PIN of the token's user.";
    "ptktdata[].windowSeconds": Number(1..=86_400, "seconds"), Rule("600 for `legacy`, 60 for enhanced algorithms"), WINDOW
        => "For how long z/OS accepts a PassTicket. It must not be longer than the window of the profile on z/OS. The gateway uses at most 600.";
    "ptktdata[].replayProtection": Boolean, Value("true"), REPLAY
        => "Whether z/OS accepts each PassTicket only once. It must agree with the profile on z/OS.";
    "ptktdata[].reuseSeconds": Number(1..=150, "seconds, at most a quarter of `windowSeconds`"), Rule("the current second"),
        "operating/ticket-reuse.md"
        => "For how long the gateway uses a PassTicket of a user again. Only with `replayProtection: false`.";
    "ptktdata[].refusals": Number(1..=2, "refused PassTickets"), Value("1"), "operating/refused-tickets.md"
        => "The number of refused PassTickets after which the gateway makes no more PassTickets for a user.";
    "ptktdata[].user": Text("user id"), Nothing, QUALIFIED
        => "The only user for whom this key is.";
    "ptktdata[].group": Text("name of a group"), Nothing, QUALIFIED
        => "The group for which this key is, with `user` or `users`.";
    "ptktdata[].users": List(&Text("user id")), Nothing, QUALIFIED
        => "The users whose default group is `group`.";
    "ptktdata[].nextKey": Mapping, Nothing, NEXT_KEY
        => "The key that replaces `key` at a given instant.";
    "ptktdata[].nextKey.algorithm": Words(ALGORITHMS), Required, NEXT_KEY
        => "The algorithm of the next key.";
    "ptktdata[].nextKey.key": Mapping, Required, NEXT_KEY
        => "Where the next key is. It has exactly one of the keys `file`, `env` and `pkcs11`.";
    "ptktdata[].nextKey.key.file": Path("a file with the key in hex"), Nothing, NEXT_KEY
        => "The file that contains the next key.";
    "ptktdata[].nextKey.key.env": Text("name of an environment variable"), Nothing, NEXT_KEY
        => "The environment variable that contains the next key in hex.";
    "ptktdata[].nextKey.key.pkcs11": Mapping, Nothing, PKCS11
        => "The next key in a PKCS#11 token.";
    "ptktdata[].nextKey.key.pkcs11.module": Path("the PKCS#11 module"), Required, PKCS11
        => "The shared library of the token's vendor.";
    "ptktdata[].nextKey.key.pkcs11.token": Text("label of a token"), Required, PKCS11
        => "The token that has the next key.";
    "ptktdata[].nextKey.key.pkcs11.label": Text("label of a key"), Required, PKCS11
        => "The next key in the token.";
    "ptktdata[].nextKey.key.pkcs11.pinFile": Path("a file with the PIN"), Required, PKCS11
        => "The file that contains the PIN of the token's user.";
    "ptktdata[].nextKey.windowSeconds": Number(1..=86_400, "seconds"),
        Rule("that of the entry, if both algorithms are enhanced or both are `legacy`; else the default of the algorithm"), NEXT_KEY
        => "For how long z/OS accepts a PassTicket of the next key.";
    "ptktdata[].nextKey.from": Text("instant in UTC, as in 2026-12-01T02:00:00Z"), Required, NEXT_KEY
        => "When the next key replaces the key of the entry.";
};
