//! The settings of a node of a cluster.

use super::{
    DefaultValue::{Nothing, Required, Rule, Value},
    Setting,
    ValueKind::{List, Mapping, Number, Path, Text, Words},
    table,
};

const NODES: &str = "operating/nodes.md";
const REDIS: &str = "operating/nodes.md#redis";
const SENTINEL: &str = "operating/nodes.md#sentinel";

pub(super) const SETTINGS: &[Setting] = table! {
    "cluster": Mapping, Nothing, NODES
        => "Makes the gateway one of several nodes that share revocations over Redis.";
    "cluster.name": Text("name of the site"), Required, NODES
        => "The name of the site. It is the same on all nodes.";
    "cluster.node": Text("name of this node"), Required, NODES
        => "The name of this node, such as `${HOSTNAME}`. Each node has its own name.";
    "cluster.leaseSeconds": Number(1..=60, "seconds"), Value("3"), NODES
        => "How long a node accepts tokens after its last contact with Redis. It is the same on all nodes.";
    "cluster.confirm": Words(&["everywhere", "local"]), Value("everywhere"), NODES
        => "Whether a revocation succeeds when no node accepts the token any more, or as soon as Redis has it.";
    "cluster.serveWithoutLeaseSeconds": Number(0..=3_600, "seconds"), Value("0"), NODES
        => "How much longer a node accepts tokens without an answer of Redis. A revoked token may work for this time.";
    "cluster.redis": Mapping, Required, REDIS
        => "The server that the nodes share, Redis or Valkey.";
    "cluster.redis.url": Text("URL, as in rediss://USER@HOST:PORT/DATABASE"), Rule("required, unless `sentinel` is present"), REDIS
        => "The address of the server. `redis://`, without TLS, is allowed only for this machine.";
    "cluster.redis.passwordFile": Path("a file with the password"), Nothing, REDIS
        => "The file that contains the password of the user.";
    "cluster.redis.certificateAuthorities": List(&Path("a PEM file with certificates")), Rule("required with `rediss://`"), REDIS
        => "The certificate authorities of the server.";
    "cluster.redis.certificate": Path("a PEM file with the certificate"), Nothing, REDIS
        => "The client certificate that the gateway presents to the server. It needs `key`.";
    "cluster.redis.key": Path("a PEM file with the key of the certificate"), Nothing, REDIS
        => "The private key of the client certificate.";
    "cluster.redis.sentinel": Mapping, Nothing, SENTINEL
        => "Servers that Redis Sentinel watches, in place of `url`.";
    "cluster.redis.sentinel.master": Text("name"), Required, SENTINEL
        => "The name of the primary in Sentinel.";
    "cluster.redis.sentinel.nodes": List(&Text("URL, as in rediss://HOST:26379")), Required, SENTINEL
        => "The addresses of Sentinel.";
    "cluster.redis.sentinel.user": Text("name of a user"), Nothing, SENTINEL
        => "The user of the servers.";
    "cluster.redis.sentinel.passwordFile": Path("a file with the password"), Nothing, SENTINEL
        => "The file that contains the password for Sentinel.";
};
