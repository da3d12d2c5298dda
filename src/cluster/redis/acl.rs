//! The permissions that a node needs in Redis.

use super::settings::SiteName;

/// The commands for which a node needs the permission. Some of these commands occur only in the scripts of the node.
/// [`inspect`](super::RedisPlace::inspect) also sends `MEMORY USAGE` and `CONFIG GET`, but works without the
/// permissions for these two commands.
const COMMANDS: &[&str] = &[
    "eval",
    "evalsha",
    "exists",
    "get",
    "hdel",
    "hget",
    "hgetall",
    "hlen",
    "hscan",
    "hset",
    "info",
    "role",
    "select",
    "set",
    "time",
    "xadd",
    "xinfo|stream",
    "xrange",
    "xread",
    "zadd",
    "zcard",
    "zrange",
    "zrem",
];

/// Returns the command that creates the user of a site in Redis, with the smallest set of permissions that a node
/// needs. The administrator replaces `PASSWORD`.
///
/// ```
/// use tower_passticket::cluster::redis::{SiteName, acl_command};
///
/// let command = acl_command(&SiteName::new("prod")?, "tp");
/// assert!(command.starts_with("ACL SETUSER tp reset on >PASSWORD ~tp:{prod}:* +eval "));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn acl_command(site: &SiteName, user: &str) -> String {
    let site = site.as_str();
    let commands: Vec<_> = COMMANDS.iter().map(|command| format!("+{command}")).collect();
    let commands = commands.join(" ");
    format!("ACL SETUSER {user} reset on >PASSWORD ~tp:{{{site}}}:* {commands}")
}
