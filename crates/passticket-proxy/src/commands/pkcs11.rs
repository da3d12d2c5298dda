//! `pkcs11`: puts PassTicket keys into a PKCS#11 token.

use passticket_pkcs11::{KeyValue, Pin, Pkcs11Error, Token};
use passticket_proxy::config::read_secret_file;

use super::ticket::read_key;
use crate::{
    cli::{Pkcs11Command, TokenKeyArgs},
    exit::Exit,
    terminal::print_line,
};

pub(crate) fn pkcs11(command: &Pkcs11Command) -> Result<(), Exit> {
    match command {
        Pkcs11Command::Import { token: args, key_file } => {
            let text = read_key(key_file)?;
            let key = KeyValue::from_hex(str::from_utf8(&text).unwrap_or_default());
            let key = key.map_err(|error| match text.trim_ascii().len() {
                16 => Exit::usage(format!(
                    "the key in {} has the length of a legacy key (DES). A token does not protect such a key, because it can \
                     be found by trying all keys; make an enhanced key",
                    key_file.display()
                )),
                _ => Exit::usage(format!("the key in {}: {error}", key_file.display())),
            })?;
            token(args)?.import(&args.label, &key).map_err(failed)?;
            print_entry(args);
            if key_file.as_os_str() != "-" {
                print_line(&format!(
                    "When the gateway works with this entry, delete the key file: shred --remove {}",
                    key_file.display()
                ));
            }
        }
        Pkcs11Command::Generate { token: args, bytes } => {
            token(args)?.generate(&args.label, usize::from(*bytes)).map_err(failed)?;
            print_entry(args);
        }
    }
    Ok(())
}

fn token(args: &TokenKeyArgs) -> Result<Token, Exit> {
    let pin = read_secret_file(&args.pin_file).map_err(Exit::usage)?;
    let pin = Pin::parse(&pin)
        .map_err(|error| Exit::usage(format!("{}: {error}", args.pin_file.display())))?;
    Ok(Token::new(&args.module, args.token.clone(), pin))
}

fn failed(error: Pkcs11Error) -> Exit {
    Exit::runtime(error)
}

/// Prints what to write into the configuration.
fn print_entry(args: &TokenKeyArgs) {
    let TokenKeyArgs { module, token, pin_file, label } = args;
    print_line(&format!(
        "The key {label} is now in the token {token}. Nobody can read the key from the token. Write this line into the \
         entry of the APPLID:"
    ));
    print_line(&format!(
        "key: {{ pkcs11: {{ module: {}, token: {token}, label: {label}, pinFile: {} }} }}",
        module.display(),
        pin_file.display()
    ));
}
