//! `config`: prints what the settings of a configuration mean.

use passticket_proxy::config::reference;

use crate::{cli::Reference, exit::Exit, terminal::print_line};

pub(crate) fn reference(args: &Reference) -> Result<(), Exit> {
    if args.markdown {
        print_line(reference::markdown().trim_end());
        return Ok(());
    }
    let settings = reference::find(args.key.as_deref().unwrap_or_default()).map_err(Exit::usage)?;
    let blocks: Vec<_> = settings.iter().map(ToString::to_string).collect();
    print_line(&blocks.join("\n\n"));
    Ok(())
}
