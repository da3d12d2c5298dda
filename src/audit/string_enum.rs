//! A macro for enums that are written as strings.

/// Declares an enum whose variants each have a string, with `ALL`, `as_str` and `Display`.
macro_rules! string_enum {
    (
        $(#[$doc:meta])*
        pub enum $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $string:literal,)+ }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $type { $($(#[$variant_doc])* $variant,)+ }

        impl $type {
            /// All variants, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the string for this variant in audit records.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $string,)+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
