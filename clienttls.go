package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
)

// maxPEM is how many bytes of certificates an endpoint may have.
const maxPEM = 64 << 10

// ClientTLS is how one endpoint is talked to over TLS, where that differs from [DispatcherOptions].TLS. The zero ClientTLS differs in
// nothing. Connections are shared by endpoints with the same ClientTLS, and by no others.
type ClientTLS struct {
	RootCAs     []byte // PEM; trusted instead of the dispatcher's; nil: those
	Certificate []byte // PEM, the endpoint's client certificate and the intermediates after it; nil: none
	Key         Secret // PEM, the key of Certificate, unencrypted; at most 4 KiB
	ServerName  string // name in the server's certificate; "": the host of the URL
}

// IsZero reports whether t is the zero ClientTLS.
func (t ClientTLS) IsZero() bool {
	return len(t.RootCAs) == 0 && len(t.Certificate) == 0 && t.Key.IsZero() && t.ServerName == ""
}

// Validate returns a [*FieldError] that names the first field that cannot be used, and never the key. The zero ClientTLS is valid.
// A certificate that is not valid any more, or not yet, is no error: the server is the one to say so.
func (t ClientTLS) Validate() error {
	bad := func(field, format string, args ...any) error {
		return &FieldError{Op: "client TLS", Field: field, Reason: fmt.Sprintf(format, args...)}
	}
	for _, f := range []struct {
		name string
		pem  []byte
	}{{"RootCAs", t.RootCAs}, {"Certificate", t.Certificate}} {
		if len(f.pem) > maxPEM {
			return bad(f.name, "has %d bytes, want at most %d", len(f.pem), maxPEM)
		}
	}
	if len(t.RootCAs) > 0 && !x509.NewCertPool().AppendCertsFromPEM(t.RootCAs) {
		return bad("RootCAs", "has no certificate in PEM form")
	}
	switch {
	case len(t.Certificate) > 0 && t.Key.IsZero():
		return &FieldError{Op: "client TLS", Field: "Key", Reason: "is empty, but there is a Certificate", Cause: ErrEmptySecret}
	case len(t.Certificate) == 0 && !t.Key.IsZero():
		return bad("Certificate", "is empty, but there is a Key")
	case len(t.Certificate) > 0:
		if _, err := tls.X509KeyPair(t.Certificate, []byte(t.Key.Reveal())); err != nil {
			return bad("Certificate", "and Key are no pair: %s", cleanDetail(err.Error()))
		}
	}
	if t.ServerName != "" {
		if reason := checkName(t.ServerName, ":/@"); reason != "" {
			return bad("ServerName", "%s", reason)
		}
	}
	return nil
}
