//! All texts that users see on the pages. To change or to translate the pages, change this file.

use tower_passticket::token::ScopePathError;

/// The language of the texts, as in the attribute `lang`.
pub(super) const LANGUAGE: &str = "en";

pub(super) const PRODUCT: &str = "Access tokens";
pub(super) const SKIP: &str = "Skip to the content";
/// The link to the list of tokens in the bar.
pub(super) const MY_TOKENS: &str = "My tokens";
pub(super) const MAIN_NAVIGATION: &str = "Main";
pub(super) const SIGN_OUT: &str = "Sign out";
pub(super) const CANCEL: &str = "Cancel";
pub(super) const BACK_TO_TOKENS: &str = "Back to your tokens";
pub(super) const COPY: &str = "Copy";
pub(super) const COPIED: &str = "Copied";
pub(super) const OPTIONAL: &str = "optional";
pub(super) const REQUEST_ID: &str = "Request id";
pub(super) const MESSAGE: &str = "Message";
pub(super) const WHAT_TO_DO: &str = "What you can do";
pub(super) const THERE_IS_A_PROBLEM: &str = "There is a problem";

pub(super) fn title(page: &str) -> String {
    format!("{page} \u{2013} {PRODUCT}")
}

/// Screen readers read this text before the user id.
pub(super) const SIGNED_IN_AS: &str = "Signed in as";
/// The title of a page that the browser shows for a moment after the user has followed a link on another site.
pub(super) const OPENING: &str = "Opening your tokens";
pub(super) const OPEN: &str = "Open your tokens";

pub(super) mod sign_in {
    pub(in super::super) const HEADING: &str = "Sign in";
    pub(in super::super) const INTRODUCTION: &str =
        "Sign in with your z/OS user id to create and manage access tokens for your tools.";
    pub(in super::super) const USER: &str = "User id";
    pub(in super::super) const PASSWORD: &str = "Password";
    pub(in super::super) const CURRENT_PASSWORD: &str = "Current password";
    pub(in super::super) const NEW_PASSWORD: &str = "New password";
    pub(in super::super) const REPEAT_PASSWORD: &str = "New password again";
    pub(in super::super) const SUBMIT: &str = "Sign in";
    pub(in super::super) const CHANGE: &str = "Change your password";
    pub(in super::super) const CHANGE_HEADING: &str = "Change your password";
    pub(in super::super) const CHANGE_SUBMIT: &str = "Change password and sign in";
    pub(in super::super) const OR: &str = "or";
    pub(in super::super) const USE_PASSWORD: &str = "Sign in without a new password";

    pub(in super::super) fn with_certificate(owner: &str) -> String {
        format!("Continue with the certificate of {owner}")
    }
    pub(in super::super) const CERTIFICATE_WITHOUT_NAME: &str = "Continue with your certificate";

    pub(in super::super) const INCOMPLETE: &str = "Enter your user id and your password.";
    pub(in super::super) const NEW_PASSWORDS_DIFFER: &str =
        "The two new passwords are not the same. Enter the new password twice.";
    pub(in super::super) const WRONG: &str =
        "The user id or the password is wrong. Check both, and try again.";
    pub(in super::super) const EXPIRED: &str =
        "Your password has expired. Choose a new one here. You are then signed in.";
    pub(in super::super) const EXPIRED_ELSEWHERE: &str = "Your password has expired. This gateway cannot change it. Change it in TSO or ask your administrator, and \
         then sign in here.";
    pub(in super::super) const CHANGE_UNSUPPORTED: &str = "This gateway cannot change passwords. Change your password in TSO or ask your administrator.";
    pub(in super::super) const NEW_PASSWORD_REFUSED: &str = "z/OS does not accept the new password. Choose another one that follows the rules of your site.";
    pub(in super::super) const USER_REVOKED: &str =
        "z/OS has revoked your user id. Ask your administrator to resume it.";
    /// `detail` says how long the user must wait. It may be empty.
    pub(in super::super) fn throttled(detail: &str) -> String {
        let text = "There were too many wrong passwords. Wait before you try again";
        if detail.is_empty() { format!("{text}.") } else { format!("{text}: {detail}.") }
    }
    pub(in super::super) const CERTIFICATE_REFUSED: &str = "Your certificate belongs to no z/OS user, or has expired. Sign in with your password, or ask your \
         administrator to map the certificate to your user id.";
}

/// Texts that say on the next page what has just happened.
pub(super) mod notices {
    pub(in super::super) const SIGNED_OUT: &str = "You are signed out.";
    pub(in super::super) const SESSION_ENDED: &str = "Your session has ended. Sign in again.";
    pub(in super::super) const CHANGED: &str = "The token is changed.";
    pub(in super::super) const REVOKED: &str =
        "The token is revoked. Requests with it are now refused.";
    pub(in super::super) const RULE_MADE: &str =
        "The tokens are revoked. Requests with them are now refused.";
    pub(in super::super) const ALL_REVOKED: &str =
        "All your tokens are revoked. Requests with them are now refused.";
}

pub(super) mod tokens {
    pub(in super::super) const HEADING: &str = "Your access tokens";
    pub(in super::super) const INTRODUCTION: &str =
        "A token lets a tool use services in your name, without your password.";
    pub(in super::super) const CREATE: &str = "Create token";
    pub(in super::super) const REVOKE_ALL: &str = "Revoke all tokens";
    pub(in super::super) const FILTER: &str = "Filter";
    pub(in super::super) const APPLY: &str = "Apply";
    pub(in super::super) const NAME_CONTAINS: &str = "Name contains";
    pub(in super::super) const STATE: &str = "State";
    pub(in super::super) const SORT: &str = "Sort by";
    pub(in super::super) const ACTIVE: &str = "Active";
    pub(in super::super) const EXPIRED: &str = "Expired";
    pub(in super::super) const REVOKED: &str = "Revoked";
    pub(in super::super) const ALL: &str = "All";
    pub(in super::super) const BY_CREATED: &str = "Newest first";
    pub(in super::super) const BY_NAME: &str = "Name";
    pub(in super::super) const BY_EXPIRY: &str = "Expires first";
    pub(in super::super) const BY_USE: &str = "Last used";
    pub(in super::super) const NAME: &str = "Name";
    pub(in super::super) const SERVICES: &str = "Services";
    pub(in super::super) const CREATED: &str = "Created";
    pub(in super::super) const EXPIRES: &str = "Expires";
    pub(in super::super) const LAST_USED: &str = "Last used";
    pub(in super::super) const ACTIONS: &str = "Actions";
    pub(in super::super) const NEVER: &str = "Never";
    pub(in super::super) const UNNAMED: &str = "Without a name";
    pub(in super::super) const EDIT: &str = "Edit";
    pub(in super::super) const ROTATE: &str = "Rotate";
    pub(in super::super) const REVOKE: &str = "Revoke";
    pub(in super::super) const NEXT: &str = "Next page";
    pub(in super::super) const FIRST: &str = "First page";
    pub(in super::super) const PAGES: &str = "Pages";
    pub(in super::super) const EMPTY: &str = "You have no active tokens.";
    pub(in super::super) const EMPTY_HINT: &str = "Create a token for each tool, such as Jenkins or git. Then you can revoke one without the others.";
    pub(in super::super) const NONE_FOUND: &str = "No token matches the filter.";
    pub(in super::super) const SHOW_ACTIVE: &str = "Show active tokens";
    pub(in super::super) const TODAY: &str = "today";

    pub(in super::super) fn days_left(days: u64) -> String {
        match days {
            0 => TODAY.to_owned(),
            1 => "in 1 day".to_owned(),
            days => format!("in {days} days"),
        }
    }

    /// The name of a link for screen readers, which may read the link without its row of the table.
    pub(in super::super) fn of_token(action: &str, name: &str) -> String {
        format!("{action} {name}")
    }
}

pub(super) mod token {
    pub(in super::super) const DESCRIPTION: &str = "Description";
    pub(in super::super) const ID: &str = "Id";
    pub(in super::super) const FROM: &str = "from";
    pub(in super::super) const FOR: &str = "for";
    pub(in super::super) const EDIT_HEADING: &str = "Edit token";
    pub(in super::super) const SAVE: &str = "Save";
    pub(in super::super) const NOT_FOUND: &str = "You have no token with this id. The gateway removes entries some time after a token has expired.";
}

/// Texts about the choices for a service.
pub(super) mod access {
    use super::ScopePathError;

    pub(in super::super) const ALL: &str = "Everything";
    pub(in super::super) const READ: &str = "Read only";
    pub(in super::super) const PATH: &str = "Only below a path";
    pub(in super::super) const PATH_FIELD: &str = "Path";
    pub(in super::super) const PATH_EXAMPLE: &str = "/reports";

    /// The label of the choice, for screen readers.
    pub(in super::super) fn of(service: &str) -> String {
        format!("What the token may do with {service}")
    }
    /// The end of the label of the path, for screen readers.
    pub(in super::super) fn for_service(service: &str) -> String {
        format!("for {service}")
    }
    /// `prefix` is the path of the service at the gateway.
    pub(in super::super) fn path_hint(prefix: &str) -> String {
        format!(
            "The part of the address after {prefix}. The token may do everything there and below."
        )
    }

    // How a page shows what a token may do.
    pub(in super::super) fn read_only(service: &str) -> String {
        format!("{service}, read only")
    }
    pub(in super::super) fn below(service: &str, path: &str) -> String {
        format!("{service}, only {path} and below")
    }

    pub(in super::super) const NOT_POSSIBLE: &str =
        "A token for this service cannot have this access. Choose one from the list.";
    pub(in super::super) const SERVICE_NOT_CHOSEN: &str = "You have entered a path, but not chosen the service. Choose the service, or delete the path.";
    pub(in super::super) const PATH_NOT_CHOSEN: &str = "You have entered a path, but not chosen “Only below a path”. Choose “Only below a path”, or delete the path.";
    pub(in super::super) const PATH_MISSING: &str =
        "Enter the path, such as /reports, or make another choice above.";
    /// `paths` are separated by commas.
    pub(in super::super) fn path_not_allowed(paths: &str) -> String {
        format!(
            "The administrator does not allow this path. Enter one of these paths, or a path below it: {paths}"
        )
    }
    pub(in super::super) fn wrong_path(error: ScopePathError) -> &'static str {
        match error {
            ScopePathError::Start => "Begin the path with a slash, such as /reports.",
            ScopePathError::TooLong => {
                "The path is too long. Enter a path of at most 256 characters."
            }
            ScopePathError::Character => {
                "Write blanks, commas, letters with accents and the like percent-encoded, such as %20 for a blank. Leave \
                 out a question mark and what follows it. A * is not needed, because the token works for everything below \
                 the path."
            }
            ScopePathError::Encoding => {
                "After a % there must be two hexadecimal digits. Write a percent sign as %25, and encode the path only once."
            }
            ScopePathError::Ambiguous => {
                "Leave out backslashes, semicolons, control characters and encoded slashes."
            }
            ScopePathError::Segment => {
                "Leave out empty parts, and parts that have only dots. So neither // nor /../ may be in the path."
            }
            _ => "Enter a path such as /reports.",
        }
    }
}

pub(super) mod create {
    pub(in super::super) const HEADING: &str = "Create token";
    pub(in super::super) const NAME: &str = "Name";
    pub(in super::super) const NAME_HINT: &str =
        "Where you will use the token, for example Jenkins.";
    pub(in super::super) const DESCRIPTION: &str = "Description";
    pub(in super::super) const SERVICES: &str = "Services";
    pub(in super::super) const SERVICES_HINT: &str =
        "The token works only for these services. Choose as few as the tool needs.";
    pub(in super::super) const FIND_SERVICE: &str = "Find a service";
    pub(in super::super) const NO_SERVICES: &str = "The gateway has no services for which you could create a token. Ask the administrator of the gateway.";
    pub(in super::super) const EXPIRY: &str = "Expires";
    pub(in super::super) const UNTIL: &str = "On a date";
    pub(in super::super) const SUBMIT: &str = "Create token";

    pub(in super::super) fn days(days: u8) -> String {
        if days == 1 { "In 1 day".to_owned() } else { format!("In {days} days") }
    }
    pub(in super::super) fn date_hint(latest: &str) -> String {
        format!("At the latest on {latest}. The token expires at the end of this day (UTC).")
    }

    pub(in super::super) const NAME_MISSING: &str = "Enter a name for the token.";
    pub(in super::super) const NAME_INVALID: &str =
        "The name may have at most 64 characters, and no control or invisible characters.";
    pub(in super::super) const DESCRIPTION_INVALID: &str =
        "The description may have at most 256 characters, and no control or invisible characters.";
    pub(in super::super) const SERVICES_MISSING: &str = "Choose at least one service.";
    pub(in super::super) const SERVICE_UNKNOWN: &str =
        "The gateway no longer has one of the services that you chose. Choose again.";
    pub(in super::super) const TOO_MANY_SERVICES: &str =
        "A token cannot have so many services. Choose fewer, or create several tokens.";
    /// The message of the auth API follows this text.
    pub(in super::super) const NOT_ALLOWED: &str = "The administrator does not allow such a token. Choose other services, or let the token do less.";
    pub(in super::super) const EXPIRY_MISSING: &str = "Choose when the token expires.";
    pub(in super::super) fn date_invalid(earliest: &str, latest: &str) -> String {
        format!("Enter a date from {earliest} to {latest}, such as {latest}.")
    }
    pub(in super::super) const TOO_MANY_TOKENS: &str = "You have as many active tokens as the gateway allows. Revoke a token that you do not need, and try again.";
    pub(in super::super) const REFUSED: &str =
        "The gateway does not accept this. Check the fields, and try again.";
}

pub(super) mod created {
    pub(in super::super) const HEADING: &str = "Your new token";
    pub(in super::super) const ONCE: &str = "Copy the token now. The gateway does not store it, so this page is the only one that shows it.";
    pub(in super::super) const TOKEN: &str = "Token";
    pub(in super::super) const COMMANDS: &str = "Use the token";
    pub(in super::super) const VARIABLE: &str = "First, put the token into a variable";
    pub(in super::super) const VARIABLE_HINT: &str = "The command waits for you to paste the token, so the token is not in the history of the shell.";
    pub(in super::super) const CURL: &str = "curl";
    pub(in super::super) const GIT: &str = "git";
    pub(in super::super) const JENKINS: &str = "Jenkins";
    pub(in super::super) const JENKINS_HINT: &str = "In a pipeline with the plugin HTTP Request. Store the token as a credential of the kind Secret text with the id \
         gateway-token.";
    pub(in super::super) const ZOWE_CLI: &str = "Zowe CLI";
    pub(in super::super) const DONE: &str = "Done";

    pub(in super::super) fn copy(what: &str) -> String {
        format!("Copy: {what}")
    }
}

pub(super) mod rotate {
    pub(in super::super) const HEADING: &str = "Rotate token";
    pub(in super::super) const EXPLANATION: &str = "You get a new token for the same services and with the same expiry date. The old token stops working after the time that you choose below.";
    pub(in super::super) const GRACE: &str = "The old token stays valid for";
    pub(in super::super) const WARNING: &str = "If anyone uses the old token after this time, the gateway also revokes the new one, because somebody else may \
         have the old token. So replace it everywhere in time.";
    pub(in super::super) const SUBMIT: &str = "Rotate token";
    pub(in super::super) const NOW: &str = "No time: replace it immediately";
    pub(in super::super) const HOUR: &str = "1 hour";
    pub(in super::super) const DAY: &str = "1 day";
    pub(in super::super) const WEEK: &str = "1 week";
    pub(in super::super) const NOT_POSSIBLE: &str = "The token cannot be rotated, because it has expired, is revoked, or was already rotated. Create a new token.";
}

pub(super) mod revoke {
    pub(in super::super) const HEADING: &str = "Revoke token";
    pub(in super::super) const EXPLANATION: &str =
        "Each tool that uses this token loses its access immediately. You cannot undo this.";
    pub(in super::super) const SUBMIT: &str = "Revoke token";
    pub(in super::super) const ALL_HEADING: &str = "Revoke all tokens";
    pub(in super::super) const ALL_EXPLANATION: &str = "Each tool that uses one of your tokens loses its access immediately. This includes tokens that are not in the \
         list. You cannot undo this.";
    pub(in super::super) const ALL_SUBMIT: &str = "Revoke all tokens";

    pub(in super::super) fn count(active: usize) -> String {
        match active {
            0 => "You have no active tokens in the list.".to_owned(),
            1 => "You have 1 active token.".to_owned(),
            active => format!("You have {active} active tokens."),
        }
    }
}

pub(super) mod problems {
    pub(in super::super) const NOT_FOUND: &str = "Page not found";
    pub(in super::super) const NOT_FOUND_HINT: &str =
        "Check the address, or start again at your tokens.";
    pub(in super::super) const FORM: &str = "The form is not valid";
    pub(in super::super) const FORM_HINT: &str = "The form was open for a long time, you have signed in or out since then, or your browser refuses cookies. Go \
         back, reload the page, and send the form again.";
    pub(in super::super) const CROSS_ORIGIN: &str = "The request came from another site";
    pub(in super::super) const CROSS_ORIGIN_HINT: &str =
        "The gateway refuses forms that other sites send. Open your tokens, and try again there.";
    pub(in super::super) const NO_DOCUMENT: &str = "This page cannot be part of another page";
    pub(in super::super) const NO_DOCUMENT_HINT: &str =
        "Open the address of the page in a window of its own.";
    pub(in super::super) const METHOD: &str = "The request is not possible";
    pub(in super::super) const METHOD_HINT: &str =
        "Go back to your tokens, and use the buttons there.";
    pub(in super::super) const TOO_LARGE: &str = "The form is too large";
    pub(in super::super) const TOO_LARGE_HINT: &str = "Go back, and shorten what you entered.";
    pub(in super::super) const BROKEN: &str = "The form did not arrive completely";
    pub(in super::super) const BROKEN_HINT: &str = "Go back, and send the form again.";
    pub(in super::super) const TOKEN_NOT_FOUND: &str = "Token not found";
    pub(in super::super) const NOT_PERMITTED: &str = "You may not do this";
    pub(in super::super) const NOT_PERMITTED_HINT: &str =
        "If you need this, give the request id to the administrator of the gateway.";
    pub(in super::super) const NOT_ADMINISTRATOR: &str = "This page is for administrators";
    pub(in super::super) const NOT_ADMINISTRATOR_HINT: &str = "If you are an administrator of the gateway, ask the security administrator for the permission above. Otherwise \
         use the page with your own tokens.";
    pub(in super::super) const UNAVAILABLE: &str = "The gateway cannot do this at the moment";
    pub(in super::super) const UNAVAILABLE_HINT: &str = "Try again in a few minutes. Before you repeat a change, check your tokens: it may have happened. If it does not \
         help, give the request id to the administrator of the gateway.";
    pub(in super::super) const TOO_MANY: &str = "Too many attempts";
    pub(in super::super) const TOO_MANY_HINT: &str = "Wait, and try again.";
    pub(in super::super) const FAILED: &str = "Something went wrong";
    pub(in super::super) const FAILED_HINT: &str =
        "Try again. If it does not help, give the request id to the administrator of the gateway.";
    pub(in super::super) const SIGN_OUT_FAILED: &str = "You are signed out of this browser";
    pub(in super::super) const SIGN_OUT_FAILED_HINT: &str = "The gateway could not end your session everywhere. The session ends by itself when it expires. If somebody else \
         may have a copy of your session, give the request id to the administrator of the gateway.";
}

pub(super) mod admin {
    pub(in super::super) const HEADING: &str = "Administration";
    pub(in super::super) const TAB_TOKENS: &str = "Find tokens";
    pub(in super::super) const TAB_RULE: &str = "Revoke by user or service";
    pub(in super::super) const TAB_EVICT: &str = "Clean up";
    pub(in super::super) const TAB_AUDIT: &str = "Audit log";
    pub(in super::super) const TAB_HEALTH: &str = "Health";

    pub(in super::super) const SEARCH_HEADING: &str = "Tokens of all users";
    pub(in super::super) const SEARCH_INTRODUCTION: &str =
        "Find tokens by their user, name or service, and revoke them.";
    pub(in super::super) const SEARCH: &str = "Search";
    pub(in super::super) const TABLE: &str = "Tokens of users";
    pub(in super::super) const USER: &str = "User id";
    pub(in super::super) const OWNER: &str = "User";
    pub(in super::super) const SERVICE: &str = "Service id";
    pub(in super::super) const NONE_FOUND: &str = "No token matches the search.";
    pub(in super::super) const NONE_FOUND_HINT: &str =
        "Expired and revoked tokens appear only with the state All, Expired or Revoked.";
    pub(in super::super) const USER_INVALID: &str =
        "Enter a user id: 1 to 8 characters of A-Z, 0-9, #, @ and $.";
    pub(in super::super) const SERVICE_INVALID: &str =
        "Enter a service id: 1 to 64 characters of a-z, 0-9, -, _ and a period.";

    pub(in super::super) fn tokens_of(user: &str) -> String {
        format!("All tokens of {user}")
    }
    pub(in super::super) fn revoke_of(name: &str, user: &str) -> String {
        format!("Revoke {name} of {user}")
    }
    pub(in super::super) fn revoke_explanation(user: &str) -> String {
        format!(
            "Each tool that uses this token of {user} loses its access immediately. You cannot undo this."
        )
    }
    pub(in super::super) fn revoke_all_of(user: &str) -> String {
        format!("Revoke all tokens of {user}")
    }
    pub(in super::super) fn revoke_all_for(service: &str) -> String {
        format!("Revoke all tokens for {service}")
    }

    pub(in super::super) const RULE_HEADING: &str = "Revoke by user or service";
    pub(in super::super) const RULE_INTRODUCTION: &str = "A rule revokes all tokens of one user, or all tokens of all users for one service. You see which tokens it \
         revokes before anything happens.";
    pub(in super::super) const RULE_OF: &str = "Which tokens";
    pub(in super::super) const OF_USER: &str = "All tokens of a user";
    pub(in super::super) const FOR_SERVICE: &str = "All tokens for a service";
    pub(in super::super) const UP_TO: &str = "Created up to";
    pub(in super::super) const UP_TO_HINT: &str = "A time in UTC. Tokens that were created later stay valid. If the field is empty, the rule revokes all tokens that \
         exist when you confirm it.";
    pub(in super::super) const TIME_INVALID: &str =
        "Enter a date and a time in UTC, such as 2027-01-15T08:00.";
    pub(in super::super) const TIME_IN_FUTURE: &str =
        "The time is in the future. Enter an earlier time in UTC, or leave the field empty.";
    pub(in super::super) const PREVIEW: &str = "Show what it revokes";

    pub(in super::super) const UP_TO_NOW: &str =
        "The rule revokes all tokens that exist when you confirm it.";
    pub(in super::super) const ISSUED_UP_TO: &str =
        "The rule revokes tokens that were created at this time or before:";
    pub(in super::super) const UNKNOWN_TOKENS: &str = "The rule also revokes tokens that the gateway does not know. The gateway learns of a token when it issues the \
         token, or when somebody uses the token here. So it may not know tokens of other gateways, and tokens from \
         before it kept this list.";
    pub(in super::super) const NO_UNDO: &str = "You cannot undo this.";

    pub(in super::super) fn hit_count(count: usize, has_more: bool) -> String {
        match (count, has_more) {
            (count, true) => format!("The rule revokes at least {count} active tokens."),
            (0, false) => "The rule revokes no active token in the list.".to_owned(),
            (1, false) => "The rule revokes 1 active token.".to_owned(),
            (count, false) => format!("The rule revokes {count} active tokens."),
        }
    }
    pub(in super::super) fn only_first(shown: usize) -> String {
        format!("The table shows only the first {shown} of these tokens.")
    }

    pub(in super::super) const EVICT_HEADING: &str = "Remove expired revocations";
    pub(in super::super) const EVICT_EXPLANATION: &str = "The gateway stores each revocation until the tokens that it revokes have expired. This removes the revocations and \
         rules that have no effect any more. No token becomes valid again.";
    pub(in super::super) const EVICT_AUTOMATIC: &str =
        "The gateway also does this by itself from time to time.";
    pub(in super::super) const EVICT_SUBMIT: &str = "Remove expired revocations";
    pub(in super::super) const EVICT_NOT_PERMITTED: &str = "You may not do this. It needs UPDATE, not only READ, on the resource that guards these pages. Ask the security \
         administrator.";

    pub(in super::super) fn evicted(tokens: u64, users: u64, services: u64) -> String {
        format!(
            "Removed revocations of single tokens: {tokens}, rules for users: {users}, rules for services: {services}."
        )
    }
}

pub(super) mod audit {
    pub(in super::super) const HEADING: &str = "Audit log";
    pub(in super::super) const INTRODUCTION: &str =
        "The last decisions about credentials, tokens and revocations, the newest first.";
    pub(in super::super) const FILE: &str = "File";
    pub(in super::super) const DECISIONS: &str = "Decisions about users";
    pub(in super::super) const UNAUTHENTICATED: &str = "Not authenticated";
    pub(in super::super) const USER: &str = "User id";
    pub(in super::super) const EVENT: &str = "Event";
    pub(in super::super) const OUTCOME: &str = "Outcome";
    pub(in super::super) const ANY: &str = "Any";
    pub(in super::super) const NOTABLE: &str = "All except routine successes";
    pub(in super::super) const TIME: &str = "Time";
    pub(in super::super) const CLIENT: &str = "Client";
    pub(in super::super) const REQUEST: &str = "Request";
    pub(in super::super) const SUBJECT: &str = "User and service";
    pub(in super::super) const DETAILS: &str = "Details";
    pub(in super::super) const ON: &str = "on";
    pub(in super::super) const FOR: &str = "for";
    pub(in super::super) const EMPTY: &str = "No record matches the filter.";
    pub(in super::super) const RELOAD: &str = "Apply";

    pub(in super::super) fn times(count: u64) -> String {
        format!("{count} times")
    }
    pub(in super::super) fn details_of(event: &str, time: &str) -> String {
        format!("Details of {event}, {time}")
    }
    pub(in super::super) const HAS_OLDER: &str = "The file has older records, which this page does not show. Use filters, or read the file itself: docs/operating/audit.md \
         says how.";
    pub(in super::super) fn unreadable(lines: usize) -> String {
        match lines {
            1 => "1 line is not a record, for example because a crash has cut it off.".to_owned(),
            lines => format!(
                "{lines} lines are no records, for example because a crash has cut them off."
            ),
        }
    }

    pub(in super::super) const OFF: &str = "The audit log is off. To switch it on, set components.passticket-proxy.audit.enabled to true, and restart the gateway.";
    pub(in super::super) const CEF: &str = "The audit log is in the Common Event Format for a security monitoring system. Search it there. This page reads only the \
         format json of components.passticket-proxy.audit.format.";
    pub(in super::super) const BUSY: &str =
        "Other administrators are reading the audit log at the moment. Reload this page.";
    pub(in super::super) const FAILED: &str = "The gateway cannot read the audit file. The log of the gateway says why. Perhaps the file was just rotated: reload this \
         page.";
}

pub(super) mod health {
    pub(in super::super) const HEADING: &str = "Health";
    pub(in super::super) const INTRODUCTION: &str =
        "The state of this node of the gateway at this moment.";
    pub(in super::super) const STATUS: &str = "State";
    pub(in super::super) const PART: &str = "Part";
    pub(in super::super) const REASON: &str = "Reason";
    pub(in super::super) const PARTS: &str = "Parts of the gateway";
    pub(in super::super) const UP: &str = "Up";
    pub(in super::super) const DOWN: &str = "Down";
    pub(in super::super) const NODES: &str = "Nodes";
    pub(in super::super) const NO_NODES: &str =
        "This gateway runs alone. It shares no revocations with other nodes.";
    pub(in super::super) const LEASE: &str = "Lease";
    pub(in super::super) const LEASE_OK: &str = "Valid";
    pub(in super::super) const LEASE_HANDED_OVER: &str =
        "Handed over to the process that takes over from this one";
    pub(in super::super) const LEASE_EXPIRED: &str =
        "Expired: this node accepts no tokens until it reaches Redis again";
    pub(in super::super) const BEHIND: &str = "Revocations not applied yet";
    pub(in super::super) const PEERS: &str = "Other nodes that run";
    pub(in super::super) const INSTANCES: &str = "Instances of services that are not healthy";
    pub(in super::super) const ALL_HEALTHY: &str = "No instance is known to be unhealthy.";
    pub(in super::super) const TICKETS: &str = "Stopped PassTickets";

    pub(in super::super) fn stopped(users: u64) -> String {
        format!(
            "Services have refused PassTickets, so the gateway makes none for some users or APPLIDs. Users: {users}."
        )
    }

    /// Returns the name of a part as the page shows it. A name that is not listed here stays the same.
    pub(in super::super) fn part(name: &str) -> &str {
        match name {
            "workers" => "Threads that serve requests",
            "revocations" => "Store of revocations",
            "audit" => "Audit log",
            "certificate" => "Certificate of the gateway",
            "configuration" => "Configuration",
            "discovery" => "Services from Eureka",
            "zoweRevocations" => "Revocations of Zowe API ML",
            "cluster" => "Other nodes (Redis)",
            other => other,
        }
    }
}
