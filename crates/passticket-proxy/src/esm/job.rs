//! Makes the batch job that puts a PassTicket key into the CKDS, the key store of ICSF. ICSF is the cryptographic
//! service of z/OS.
//!
//! The job reads the key from a data set, or makes the key. The text of the job contains no key, because z/OS keeps
//! this text in the spool.
//!
//! Sources: IBM, *ICSF Application Programmer's Guide* (Key Token Build2, Key Part Import2, Random Number Generate
//! Long, CKDS Key Record Create2), *ICSF Administrator's Guide* (KGUP), *TSO/E REXX Reference* (LINKPGM, EXECIO);
//! docs/reference/security-products.md#key-job.
//!
//! A PassTicket is a short-lived password of z/OS.

use std::fmt;

use super::{Application, Esm};

/// Where the key of a [`key_job`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// The job reads the gateway's key from a data set.
    Gateway,
    /// The job makes a random key, and writes it to a new data set for the gateway.
    Zos,
}

/// A batch job as lines of at most 71 columns. [`Display`](fmt::Display) writes all lines, each with a newline.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a job has no effect until it is printed"]
pub struct Job {
    lines: Vec<String>,
}

impl Job {
    /// Returns the lines, without newlines.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    fn add(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    fn add_all(&mut self, text: &str) {
        self.lines.extend(text.lines().map(str::to_owned));
    }

    /// Adds a JCL comment of any length. The comment is broken into lines.
    fn note(&mut self, text: &str) {
        const WIDTH: usize = 71 - "//* ".len();
        let mut line = String::new();
        for word in text.split_whitespace() {
            if !line.is_empty() && line.len() + 1 + word.len() > WIDTH {
                self.add(format!("//* {line}"));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.add(format!("//* {line}"));
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The reason why there is no job for a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKeyJob {
    /// Only RACF keeps PassTicket keys in the CKDS in a documented way.
    #[error(
        "key-job is only for RACF, because in {0} a command defines the key; write --esm racf, \
         or write keys instead of key-job"
    )]
    Product(&'static str),
    /// KGUP (the key generator program of ICSF) can make a DES key, but does not show the clear value of the key. So
    /// the gateway could not get the key.
    #[error(
        "--make is only for enhanced keys, because ICSF does not show the legacy key that it makes; \
         leave out --make, or write --algorithm enhanced-upper or enhanced-mixed"
    )]
    LegacyOrigin,
}

/// Returns the job that puts the key of the application into the CKDS, under the label that the commands of
/// [`keys`](super::keys) contain (docs/reference/security-products.md#key-job).
///
/// # Errors
/// [`NoKeyJob`] if the product is not RACF, or if z/OS should make a legacy key.
pub fn key_job(esm: Esm, application: &Application, origin: KeyOrigin) -> Result<Job, NoKeyJob> {
    match (esm, application.is_legacy(), origin) {
        (Esm::Racf, false, _) => Ok(hmac(application, origin)),
        (Esm::Racf, true, KeyOrigin::Gateway) => Ok(des(application)),
        (Esm::Racf, true, KeyOrigin::Zos) => Err(NoKeyJob::LegacyOrigin),
        (Esm::Acf2 | Esm::TopSecret, ..) => Err(NoKeyJob::Product(esm.name())),
    }
}

const NOT_RUN: &str = "This job has not run on z/OS yet. Read it, and run it with a test key and a \
                       test label first.";

fn begin(name: &str, purpose: &str) -> Job {
    let mut job = Job { lines: Vec::new() };
    job.add(format!("//{name:<8} JOB (ACCOUNT),'PASSTICKET KEY',CLASS=A,MSGCLASS=X"));
    job.note(purpose);
    job.note(NOT_RUN);
    job
}

fn hmac(application: &Application, origin: KeyOrigin) -> Job {
    let Application { applid, .. } = application;
    let label = application.key_label();
    let purpose = match origin {
        KeyOrigin::Gateway => format!(
            "Puts the gateway's enhanced PassTicket key of {applid} into the CKDS under the label \
             {label}."
        ),
        KeyOrigin::Zos => format!(
            "Makes an enhanced PassTicket key for {applid}, puts it into the CKDS under the label \
             {label}, and writes it to a new data set for the gateway."
        ),
    };
    let mut job = begin("PTKHMAC", &purpose);
    job.note("1. Replace the operands of JOB, and each text in angle brackets.");
    job.note(match origin {
        KeyOrigin::Gateway => {
            "2. The data set of KEYHEX has the key in hex, with at most 72 digits in a line. The \
             command fold -w 64 KEYFILE breaks the gateway's key file into such lines. Transfer it \
             as text. Only you may be permitted to read the data set. Delete it after the job."
        }
        KeyOrigin::Zos => {
            "2. A profile of class DATASET must permit only you to read the data set of KEYHEX, \
             before you submit the job. The gateway's key file is the same hex digits in one line. \
             Delete the data set as soon as the gateway has the key."
        }
    });
    job.note(match origin {
        KeyOrigin::Gateway => {
            "3. The user id of the job needs READ on CSFKPI2 and CSFKRC2 in class CSFSERV. Check \
             the names in the ICSF Administrator's Guide."
        }
        KeyOrigin::Zos => {
            "3. The user id of the job needs READ on CSFRNGL, CSFKPI2 and CSFKRC2 in class CSFSERV. \
             Check the names in the ICSF Administrator's Guide."
        }
    });
    job.note(
        "4. ICSF needs a coprocessor with an AES master key. The role of the coprocessor must \
         permit the access control points 0299 (load the first key part, one part required) and \
         029D (complete the key). The CKDS must have the variable-length format or the common \
         record format (KDSR). The console command D ICSF,KDS shows the format.",
    );
    job.note(
        "5. If the label exists or another step fails, the job ends with return code 12, and the \
         CKDS does not change. Then also delete the data set of KEYHEX.",
    );
    job.add_all(EXEC_STEP);
    job.add_all(match origin {
        KeyOrigin::Gateway => concat!(
            include_str!("key_begin.rexx"),
            include_str!("key_read.rexx"),
            include_str!("key_store.rexx"),
        ),
        KeyOrigin::Zos => concat!(
            include_str!("key_begin.rexx"),
            include_str!("key_make.rexx"),
            include_str!("key_store.rexx"),
        ),
    });
    job.add(DELIMITER);
    job.add("//LOAD     EXEC PGM=IKJEFT1B,COND=(0,NE)");
    job.add("//SYSEXEC  DD DSN=&&EXEC,DISP=(OLD,DELETE)");
    match origin {
        KeyOrigin::Gateway => {
            job.add(format!("//KEYHEX   DD DSN=<data-set-with-the-key-of-{applid}>,DISP=SHR"));
        }
        KeyOrigin::Zos => {
            job.add(format!("//KEYHEX   DD DSN=<new-data-set-for-the-key-of-{applid}>,"));
            job.add("//            DISP=(NEW,CATLG,DELETE),SPACE=(TRK,1),UNIT=SYSALLDA,");
            job.add("//            DCB=(DSORG=PS,RECFM=FB,LRECL=80)");
        }
    }
    job.add("//SYSTSPRT DD SYSOUT=*");
    job.add("//SYSTSIN  DD *");
    job.add(format!("  %PTKHMAC {label}"));
    job.add("/*");
    job
}

/// The delimiter that ends the REXX program (exec) in the job. No line of the exec begins with it.
const DELIMITER: &str = "ZZ";

/// The step that stores the exec in a temporary data set.
const EXEC_STEP: &str = "\
//EXEC     EXEC PGM=IEBGENER
//SYSPRINT DD DUMMY
//SYSIN    DD DUMMY
//SYSUT2   DD DSN=&&EXEC(PTKHMAC),DISP=(NEW,PASS),SPACE=(TRK,(2,1,1)),
//            UNIT=SYSALLDA,DCB=(DSORG=PO,RECFM=FB,LRECL=80)
//SYSUT1   DD DATA,DLM=ZZ
";

fn des(application: &Application) -> Job {
    let Application { applid, .. } = application;
    let label = application.key_label();
    let mut job = begin(
        "PTKDES",
        &format!(
            "Puts the gateway's legacy PassTicket key of {applid} into the CKDS under the label \
             {label}, with KGUP."
        ),
    );
    job.note("1. Replace the operands of JOB, and each text in angle brackets.");
    job.note(
        "2. The data set of CSFIN has this control statement, with the 16 hex digits of the \
         gateway's key. Only you may be permitted to read the data set. Delete it after the job:",
    );
    job.add(format!("//* ADD LABEL({label}) TYPE(DATA) CLEAR KEY(<key>)"));
    job.note(
        "3. A clear key needs the special secure mode of ICSF (PARM='SSM'). Read in the ICSF \
         Administrator's Guide how your site permits it.",
    );
    job.note("4. CSFKEYS and CSFSTMNT may receive keys, so protect these data sets, too.");
    job.note(
        "5. After the job, activate the changed CKDS: option Refresh of the ICSF panel Key \
         Administration.",
    );
    job.add("//KGUP     EXEC PGM=CSFKGUP,PARM='SSM'");
    job.add("//CSFCKDS  DD DSN=<your-CKDS>,DISP=OLD");
    job.add(format!("//CSFIN    DD DSN=<data-set-with-the-key-of-{applid}>,DISP=OLD"));
    job.add("//CSFDIAG  DD SYSOUT=*");
    job.add("//CSFKEYS  DD DSN=<data-set-for-key-output>,DISP=OLD");
    job.add("//CSFSTMNT DD DSN=<data-set-for-control-statement-output>,DISP=OLD");
    job
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tower_passticket::passticket::{Algorithm, Applid, Replay};

    use super::*;

    fn job(algorithm: Algorithm, origin: KeyOrigin) -> Result<Job, NoKeyJob> {
        let applid = Applid::new("IZUDFLT8").unwrap();
        let window = Duration::from_secs(600);
        key_job(
            Esm::Racf,
            &Application { applid, algorithm, replay: Replay::Protected, window },
            origin,
        )
    }

    #[test]
    fn lines_have_the_syntax_of_jcl() {
        for (algorithm, origin) in [
            (Algorithm::EnhancedUpper, KeyOrigin::Gateway),
            (Algorithm::EnhancedMixed, KeyOrigin::Zos),
            (Algorithm::Legacy, KeyOrigin::Gateway),
        ] {
            let job = job(algorithm, origin).unwrap();
            let mut in_exec = false;
            for line in job.lines() {
                assert!(line.len() <= 71, "{line}");
                assert!(line.bytes().all(|b| matches!(b, b' '..=b'~')), "{line}");
                // These characters have different codes in the EBCDIC code pages of different countries.
                assert!(!in_exec || !line.contains(['|', '\\', '^', '!', '#', '@', '$']), "{line}");
                match (in_exec, line) {
                    (true, DELIMITER) => in_exec = false,
                    (true, line) => assert!(line.starts_with(' '), "{line}"),
                    (false, "//SYSUT1   DD DATA,DLM=ZZ") => in_exec = true,
                    (false, line) => assert!(
                        line.starts_with("//") || line.starts_with("  %PTKHMAC ") || line == "/*",
                        "{line}"
                    ),
                }
            }
            assert!(!in_exec);
        }
    }

    /// The numbers of parameters are those of the *ICSF Application Programmer's Guide*.
    #[test]
    fn each_call_has_the_parameters_of_its_service() {
        // Each call begins with return code, reason code, exit data length, exit data, rule count, rules.
        let expected = [
            ("CSNBRNGL", "RANDOM  ", 4),
            ("CSNBKTB2", "INTERNALHMAC    NO-KEY  MAC     GENERATE", 12),
            ("CSNBKPI2", "HMAC    FIRST   MIN1PART", 4),
            ("CSNBKPI2", "HMAC    COMPLETE", 4),
            ("CSNBKRC2", "", 3),
        ];
        let job = job(Algorithm::EnhancedUpper, KeyOrigin::Zos).unwrap().to_string();
        let joined = job.replace(",\n", "");
        let calls = joined.lines().filter_map(|line| line.trim().strip_prefix("call icsf "));
        let calls: Vec<_> = calls
            .map(|call| {
                let texts: Vec<_> = call.split('\'').skip(1).step_by(2).collect();
                let [service, rules, parameters] = texts[..] else { panic!("{call}") };
                assert_eq!(rules.len() % 8, 0, "{call}");
                (service, rules, parameters.split_whitespace().count())
            })
            .collect();
        assert_eq!(calls, expected);
    }

    #[test]
    fn there_is_no_job_for_acf2_top_secret_or_a_legacy_key_that_z_os_makes() {
        assert_eq!(job(Algorithm::Legacy, KeyOrigin::Zos), Err(NoKeyJob::LegacyOrigin));
        let applid = Applid::new("IZUDFLT").unwrap();
        let (replay, window) = (Replay::Protected, Duration::from_secs(600));
        for esm in [Esm::Acf2, Esm::TopSecret] {
            for algorithm in [Algorithm::Legacy, Algorithm::EnhancedUpper] {
                let application = Application { applid, algorithm, replay, window };
                let error = key_job(esm, &application, KeyOrigin::Gateway).unwrap_err();
                assert_eq!(error, NoKeyJob::Product(esm.name()));
            }
        }
    }
}
