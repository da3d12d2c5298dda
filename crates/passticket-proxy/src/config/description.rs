//! Reads the settings of a service definition that only describe the service: its title, APIs and pages.

use super::reader::{Field, Section};
use tower_passticket::api::ListedApi;

pub(super) struct Description {
    pub(super) title: Option<String>,
    pub(super) description: Option<String>,
    pub(super) home_page: Option<String>,
    pub(super) status_page: Option<String>,
    pub(super) health_check: Option<String>,
    pub(super) apis: Vec<Api>,
}

pub(super) struct Api {
    pub(super) api: ListedApi,
    pub(super) swagger_url: Option<String>,
}

/// Reads the description. The values are not checked, because they do not change how the gateway handles requests.
pub(super) fn read(section: &mut Section<'_>) -> Description {
    let apis = section.optional("apiInfo").map(|field| field.items()).unwrap_or_default();
    let mut text = |name| section.optional(name).and_then(|field| text_of(&field));
    Description {
        title: text("title"),
        description: text("description"),
        home_page: text("homePageRelativeUrl"),
        status_page: text("statusPageRelativeUrl"),
        health_check: text("healthCheckRelativeUrl"),
        apis: apis.iter().filter_map(api).collect(),
    }
}

/// Reads an entry of `apiInfo`. Returns `None` for an API without an id, such as an entry that only names
/// documentation. The gateway does not list such an API, because clients cannot find it.
fn api(field: &Field<'_>) -> Option<Api> {
    let mut section = field.section();
    let mut text = |name| section.optional(name).and_then(|field| text_of(&field));
    let (id, gateway_url) = (text("apiId"), text("gatewayUrl"));
    let mut api = ListedApi::new(id.unwrap_or_default(), &gateway_url.unwrap_or_default());
    api.version = text("version");
    api.documentation_url = text("documentationUrl");
    let swagger_url = text("swaggerUrl");
    api.is_default = section.optional("defaultApi").is_some_and(|field| field.is_word("true"));
    (!api.api_id.is_empty()).then_some(Api { api, swagger_url })
}

fn text_of(field: &Field<'_>) -> Option<String> {
    field.unchecked_text().map(str::to_owned)
}
