package sqlstore

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/signalpost/webhook"
)

// credentials is what of an endpoint is kept like its secrets, but is none to sign with: sealed JSON in a column of its own. Byte
// slices are base64, as a secret may hold any bytes.
type credentials struct {
	Header map[string][]string `json:"header,omitempty"`
	Auth   *authCredential     `json:"auth,omitempty"`
	TLS    *tlsCredential      `json:"tls,omitempty"`
	Proxy  string              `json:"proxy,omitempty"`
	Old    []oldSecret         `json:"old,omitempty"`
	URL    string              `json:"url,omitempty"` // of an endpoint that is sealed: its path and query may be secrets too
}

type authCredential struct {
	Kind   string `json:"kind"`
	Name   string `json:"name,omitempty"`
	Secret []byte `json:"secret"`
}

// oldSecret is a secret that signs until a time, in microseconds since the Unix epoch.
type oldSecret struct {
	Secret []byte `json:"secret"`
	Until  int64  `json:"until"`
}

type tlsCredential struct {
	RootCAs     []byte `json:"root_cas,omitempty"`
	Certificate []byte `json:"certificate,omitempty"`
	Key         []byte `json:"key,omitempty"`
	ServerName  string `json:"server_name,omitempty"`
}

var errUnreadableCredentials = errors.New("unreadable")

// encodeCredentials returns nil for an endpoint that has none.
func encodeCredentials(ctx context.Context, codec sealer, ep *webhook.Endpoint) ([]byte, error) {
	c := credentials{Header: ep.Header, Proxy: ep.Proxy}
	if codec.cipher != nil {
		c.URL = ep.URL
	}
	if !ep.Auth.IsZero() {
		c.Auth = &authCredential{Kind: ep.Auth.Kind, Name: ep.Auth.Name, Secret: []byte(ep.Auth.Secret.Reveal())}
	}
	if t := ep.TLS; !t.IsZero() {
		c.TLS = &tlsCredential{RootCAs: t.RootCAs, Certificate: t.Certificate, Key: []byte(t.Key.Reveal()), ServerName: t.ServerName}
	}
	for _, old := range ep.Retiring {
		c.Old = append(c.Old, oldSecret{[]byte(old.Secret.Reveal()), micros(old.Until)})
	}
	if len(c.Old) == 0 && len(c.Header) == 0 && c.Auth == nil && c.TLS == nil && c.Proxy == "" && c.URL == "" {
		return nil, nil
	}
	plain, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return codec.seal(ctx, credentialsColumn, ep.ID, plain)
}

// decodeCredentials never lets what it reads into its error.
func (r *endpointRow) decodeCredentials(ctx context.Context, codec sealer, ep *webhook.Endpoint) error {
	if len(r.credentials) == 0 {
		if codec.only { // what is sealed always has its URL here
			return webhook.ErrNotSealed
		}
		return nil
	}
	plain, err := codec.open(ctx, credentialsColumn, r.id, r.credentials)
	if err != nil {
		return err
	}
	var c credentials
	if json.Unmarshal(plain, &c) != nil {
		return errUnreadableCredentials
	}
	ep.Header, ep.Proxy = c.Header, c.Proxy
	if c.URL != "" {
		ep.URL = c.URL
	}
	for _, old := range c.Old {
		secret, err := issued(old.Secret)
		if err != nil {
			return err
		}
		ep.Retiring = append(ep.Retiring, webhook.RetiringSecret{Secret: secret, Until: fromMicros(old.Until)})
	}
	if a := c.Auth; a != nil {
		ep.Auth = webhook.Auth{Kind: a.Kind, Name: a.Name}
		if ep.Auth.Secret, err = issued(a.Secret); err != nil {
			return err
		}
	}
	if t := c.TLS; t != nil {
		ep.TLS = webhook.ClientTLS{RootCAs: t.RootCAs, Certificate: t.Certificate, ServerName: t.ServerName}
		if ep.TLS.Key, err = issued(t.Key); err != nil {
			return err
		}
	}
	return nil
}

// issued is the secret of a text; the zero one of none.
func issued(text []byte) (webhook.Secret, error) {
	if len(text) == 0 {
		return webhook.Secret{}, nil
	}
	return webhook.IssuedSecret(string(text))
}
