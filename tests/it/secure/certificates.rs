//! An authority that lives as long as a test, and what it signs.

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509NameBuilder};

/// Days that certificates are valid.
const VALID_DAYS: u32 = 2;

/// A certificate and its key.
pub struct Identity {
    key: PKey<Private>,
    certificate: X509,
}

/// Who signs.
pub struct Authority(Identity);

impl Authority {
    /// Signs itself.
    pub fn new(name: &str) -> Authority {
        let (key, mut builder) = begin(name);
        let issuer = builder_name(name);
        builder.set_issuer_name(&issuer).unwrap();
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        Authority(Identity { key, certificate: builder.build() })
    }

    /// A certificate for 127.0.0.1 and localhost.
    pub fn issue(&self, name: &str) -> Identity {
        let (key, mut builder) = begin(name);
        let issuer = &self.0.certificate;
        builder.set_issuer_name(issuer.subject_name()).unwrap();
        let context = builder.x509v3_context(Some(issuer), None);
        let names = SubjectAlternativeName::new().dns("localhost").ip("127.0.0.1").build(&context).unwrap();
        builder.append_extension(names).unwrap();
        builder.sign(&self.0.key, MessageDigest::sha256()).unwrap();
        Identity { key, certificate: builder.build() }
    }

    /// What the others trust.
    pub fn certificate_pem(&self) -> String {
        String::from_utf8(self.0.certificate.to_pem().unwrap()).unwrap()
    }
}

impl Identity {
    /// Key and certificate.
    pub fn pem(&self) -> String {
        let key = self.key.private_key_to_pem_pkcs8().unwrap();
        String::from_utf8([key, self.certificate.to_pem().unwrap()].concat()).unwrap()
    }

    /// The same in one encrypted file.
    pub fn pkcs12(&self, password: &str) -> Vec<u8> {
        let mut store = Pkcs12::builder();
        store.name("client").pkey(&self.key).cert(&self.certificate);
        store.build2(password).unwrap().to_der().unwrap()
    }
}

fn builder_name(name: &str) -> openssl::x509::X509Name {
    let mut builder = X509NameBuilder::new().unwrap();
    builder.append_entry_by_text("CN", name).unwrap();
    builder.build()
}

/// A key, and a certificate without issuer and signature.
fn begin(name: &str) -> (PKey<Private>, X509Builder) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(fastrand::u32(1..)).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&builder_name(name)).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(VALID_DAYS).unwrap()).unwrap();
    (key, builder)
}
