//! Encryption to the database: with any server, or only with the expected one.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use mysql::prelude::Queryable;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};

use crate::support::service::program;
use crate::support::{Database, Schema, Service};

/// A folder with the certificate of a test's own authority and files for servers.
struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let dir = std::env::temp_dir().join(format!("twotier-ca-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { dir, issuer: Issuer::new(params, key) }
    }

    /// The options of a server with a certificate for `localhost` that ends in this year.
    fn server(&self, until: i32) -> String {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let (certificate, private) = (self.dir.join(format!("{until}.pem")), self.dir.join(format!("{until}-key.pem")));
        fs::write(&certificate, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        fs::write(&private, key.serialize_pem()).unwrap();
        format!("--ssl-cert={} --ssl-key={}", certificate.display(), private.display())
    }

    /// A client's certificate and its key, as files.
    fn client(&self) -> (String, String) {
        let mut params = CertificateParams::new(["a client".to_owned()]).unwrap();
        // The name must differ from the authority's, or the certificate counts as self-signed.
        params.distinguished_name.push(DnType::CommonName, "a client");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let (certificate, private) = (self.dir.join("client.pem"), self.dir.join("client-key.pem"));
        fs::write(&certificate, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        fs::write(&private, key.serialize_pem()).unwrap();
        (certificate.display().to_string(), private.display().to_string())
    }

    fn certificate(&self) -> String {
        self.dir.join("ca.pem").display().to_string()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A schema on a server with these options, and a user that must connect with encryption.
fn encrypted_only(options: &str) -> Schema {
    let database: Arc<Database> = Database::private_with(options);
    let schema = database.schema();
    let mut admin = database.connect();
    admin.query_drop("CREATE USER tls@'127.0.0.1' IDENTIFIED BY 't' REQUIRE SSL").unwrap();
    admin.query_drop(format!("GRANT ALL ON {}.* TO tls@'127.0.0.1'", schema.name)).unwrap();
    schema
}

fn start(schema: &Schema, settings: &[(&str, &str)]) -> Service {
    let user = [("MYSQL_USER", "tls"), ("MYSQL_PASSWORD", "t"), ("DB_WAIT", "300ms")];
    Service::start(schema, &[&user, settings].concat())
}

#[track_caller]
fn assert_refused(schema: &Schema, settings: &[(&str, &str)], words: &str) {
    let service = start(schema, settings);
    assert_eq!(service.wait(), 1, "{settings:?}");
    let last = service.log().lines().last().unwrap_or_default().to_owned();
    assert!(last.contains(words) && last.contains("MYSQL_SSL_MODE"), "{settings:?}: {last}");
}

#[test]
fn the_right_server_is_taken_and_any_other_is_refused() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let schema = encrypted_only(&ours.server(2099));
    let (ours, other) = (ours.certificate(), other.certificate());
    let taken: [&[(&str, &str)]; 4] = [
        &[("MYSQL_SSL_MODE", "required")],
        &[("MYSQL_SSL_MODE", "PREFERRED")],
        // The certificate is for localhost, and this is an address.
        &[("MYSQL_SSL_MODE", "VERIFY_CA"), ("MYSQL_SSL_CA", &ours)],
        &[("MYSQL_SSL_MODE", "verify"), ("MYSQL_SSL_CA", &ours), ("MYSQL_HOST", "localhost")],
    ];
    for settings in taken {
        let service = start(&schema, settings);
        service.wait_until_ready();
        assert_eq!(service.submit("encrypted", &[]).status, 200, "{settings:?}");
    }
    let by_another = [("MYSQL_SSL_MODE", "verify"), ("MYSQL_SSL_CA", &*other), ("MYSQL_HOST", "localhost")];
    assert_refused(&schema, &by_another, "certificate");
    assert_refused(&schema, &[("MYSQL_SSL_MODE", "verify-ca"), ("MYSQL_SSL_CA", &*other)], "certificate");
    assert_refused(&schema, &[("MYSQL_SSL_MODE", "verify"), ("MYSQL_HOST", "localhost")], "certificate");
    let another_name = [("MYSQL_SSL_MODE", "verify"), ("MYSQL_SSL_CA", &*ours), ("MYSQL_HOST", "127.0.0.1")];
    assert_refused(&schema, &another_name, "certificate");

    let port = schema.database.port().to_string();
    let mut check = program(&[("MYSQL_HOST", "localhost"), ("MYSQL_PORT", &port), ("MYSQL_DB", &schema.name)]);
    check.envs([("MYSQL_USER", "tls"), ("MYSQL_PASSWORD", "t"), ("MYSQL_SSL_MODE", "verify"), ("MYSQL_SSL_CA", &ours)]);
    let output = check.arg("check").output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && words.contains("encryption    on; certificate and host name are checked"),
        "{words}"
    );
}

#[test]
fn an_account_that_requires_a_client_certificate_gets_one() {
    let authority = Authority::new("clients");
    let (certificate, key) = authority.client();
    let options = format!("{} --ssl-ca={}", authority.server(2099), authority.certificate());
    let schema = encrypted_only(&options);
    schema.database.connect().query_drop("ALTER USER tls@'127.0.0.1' REQUIRE X509").unwrap();
    let service =
        start(&schema, &[("MYSQL_SSL_MODE", "required"), ("MYSQL_SSL_CERT", &certificate), ("MYSQL_SSL_KEY", &key)]);
    service.wait_until_ready();
    let refused = start(&schema, &[("MYSQL_SSL_MODE", "required")]);
    assert_eq!(refused.wait(), 1);
    assert!(refused.log().contains("access denied"), "{}", refused.log());
}

#[test]
fn encryption_that_is_preferred_does_without_where_the_server_offers_none() {
    let schema = Database::private_with("--skip-ssl").schema();
    Service::start(&schema, &[("MYSQL_SSL_MODE", "preferred")]).wait_until_ready();
}

#[test]
fn an_expired_certificate_is_refused() {
    let authority = Authority::new("expired");
    let schema = encrypted_only(&authority.server(2021));
    let certificate = authority.certificate();
    let settings = [("MYSQL_SSL_MODE", "verify"), ("MYSQL_SSL_CA", &*certificate), ("MYSQL_HOST", "localhost")];
    assert_refused(&schema, &settings, "expired");
}

#[test]
fn a_server_without_encryption_is_refused_where_it_is_required() {
    let authority = Authority::new("plain");
    let database = Database::private_with("--skip-ssl");
    let schema = database.schema();
    let certificate = authority.certificate();
    for settings in [
        &[("MYSQL_SSL_MODE", "required")][..],
        &[("MYSQL_SSL_MODE", "verify"), ("MYSQL_SSL_CA", &certificate), ("MYSQL_HOST", "localhost")],
    ] {
        assert_refused(&schema, settings, "the server offers none");
    }
}
