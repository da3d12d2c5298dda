//! The HTML of the pages. maud checks the templates when the program is compiled, and escapes each text.

mod admin;
mod audit;
mod create;
mod health;
mod layout;
mod problem;
mod sign_in;
mod table;
mod token;
mod tokens;

pub(super) use admin::{
    RulePage, RulePreview, SearchPage, evict, preview, revoke_users_token, rule, search,
    users_token,
};
pub(super) use audit::audit;
pub(super) use create::{CreatePage, CreatedPage, create, created};
pub(super) use health::health;
pub(super) use layout::{Area, Frame};
pub(super) use problem::{ProblemPage, open_again, problem};
pub(super) use sign_in::{SignInPage, SignInTrouble, sign_in};
pub(super) use token::{edit, revoke, revoke_all, rotate, token};
pub(super) use tokens::{ListPage, tokens};
