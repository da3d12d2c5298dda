//! YAML to typed configuration.
