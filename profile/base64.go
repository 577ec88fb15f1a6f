package profile

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/signalpost/webhook"
)

// base64Body is the formats that carry the standard base64 of the body's HMAC, which say nothing about time.
type base64Body struct {
	name     string
	header   string // canonical
	prefix   string // before the base64
	idHeader string // canonical; carries the event's ID, unsigned; "" when the format has none
}

func (s base64Body) Name() string { return s.name }

// HeaderNames is [webhook.HeaderNamer]: the signature's header may be configured.
func (s base64Body) HeaderNames() []string {
	if s.idHeader == "" {
		return []string{s.header}
	}
	return []string{s.header, s.idHeader}
}

// CheckSecret refuses no secret: it is where a bad header name is told before the first request.
func (s base64Body) CheckSecret(webhook.Secret) error {
	if !isToken(s.header) {
		return &webhook.FieldError{Op: s.name, Field: "header", Reason: fmt.Sprintf("%q is no header name", s.header)}
	}
	return nil
}

func (s base64Body) Sign(m *webhook.Message, secrets []webhook.Secret, _ time.Time) error {
	if s.idHeader != "" && m.EventID != "" {
		if err := checkID(m.EventID); err != nil {
			return err
		}
		m.Header.Set(s.idHeader, m.EventID)
	}
	sum := secrets[0].HMAC(m.Body)
	m.Header.Set(s.header, s.prefix+base64.StdEncoding.EncodeToString(sum[:]))
	return nil
}

func (s base64Body) Verify(m *webhook.Message, secrets []webhook.Secret) (webhook.Verification, error) {
	value, err := webhook.OneHeader(m.Header, s.header)
	if err != nil {
		return webhook.Verification{}, err
	}
	id, err := s.eventID(m.Header)
	if err != nil {
		return webhook.Verification{}, err
	}
	coded, ok := strings.CutPrefix(value, s.prefix)
	if !ok {
		return webhook.Verification{}, refuse(webhook.ErrHeaderMalformed, "header %s does not begin with %q", s.header, s.prefix)
	}
	sum, err := webhook.DecodeBase64(coded)
	if err != nil {
		return webhook.Verification{}, err
	}
	matched, err := webhook.MatchHMAC(secrets, []mac{sum}, m.Body)
	if err != nil {
		return webhook.Verification{}, err
	}
	return webhook.Verification{Secret: matched, EventID: id}, nil
}

// eventID reads the ID, which may be absent: no signature depends on it.
func (s base64Body) eventID(h http.Header) (string, error) {
	if s.idHeader == "" {
		return "", nil
	}
	id, err := webhook.OneHeader(h, s.idHeader)
	if errors.Is(err, webhook.ErrHeaderMissing) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return id, checkReceivedID(s.idHeader, id)
}

// maxIDBytes is what an event's ID may have.
const maxIDBytes = 128

// visibleASCII reports whether id can stand in a header without quoting.
func visibleASCII(id string) bool {
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return false
		}
	}
	return true
}

// checkID is for IDs that we send.
func checkID(id string) error {
	if len(id) > maxIDBytes || !visibleASCII(id) {
		reason := fmt.Sprintf("is not 1 to %d visible ASCII characters", maxIDBytes)
		return &webhook.FieldError{Op: "sign", Field: "EventID", Reason: reason}
	}
	return nil
}

// checkReceivedID is for IDs that come in, which callers log and keep.
func checkReceivedID(header, id string) error {
	switch {
	case len(id) > 2*maxIDBytes:
		return refuse(webhook.ErrHeaderTooLong, "header %s has %d bytes, want at most %d", header, len(id), 2*maxIDBytes)
	case !visibleASCII(id):
		return refuse(webhook.ErrHeaderMalformed, "header %s has a character that is not visible ASCII", header)
	}
	return nil
}

func refuse(cause error, format string, args ...any) error {
	return &webhook.VerifyError{Err: cause, Detail: fmt.Sprintf(format, args...)}
}

// isToken reports whether name can name a header.
func isToken(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return name != ""
}
