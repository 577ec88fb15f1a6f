package webhook

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"github.com/signalpost/webhook/internal/h1"
)

// Kinds of [Auth].
const (
	authBearer = "bearer"
	authBasic  = "basic"
	authHeader = "header"
)

// Auth is what an endpoint wants besides the signature, to let requests in. Make one with [Bearer], [Basic] or [HeaderAuth]; the zero
// Auth is none. It is set on every attempt, over what the event's and the endpoint's headers say, and shows its secret to nobody.
type Auth struct {
	Kind   string // "bearer", "basic" or "header"; "" is the zero Auth
	Name   string // "basic": the user; "header": the header's name
	Secret Secret // the token, the password or the header's value; at most 4 KiB
}

// Bearer sends "Authorization: Bearer token" (RFC 6750).
func Bearer(token Secret) Auth { return Auth{Kind: authBearer, Secret: token} }

// Basic sends a user and password as "Authorization: Basic …" (RFC 7617), in UTF-8. The user has no colon.
func Basic(user string, password Secret) Auth {
	return Auth{Kind: authBasic, Name: user, Secret: password}
}

// HeaderAuth sends a header of the receiver's choice, such as X-Api-Key.
func HeaderAuth(name string, value Secret) Auth {
	return Auth{Kind: authHeader, Name: name, Secret: value}
}

// IsZero reports whether a is the zero Auth, which sends nothing.
func (a Auth) IsZero() bool { return a.Kind == "" && a.Name == "" && a.Secret.IsZero() }

// Validate returns a [*FieldError] that names the first field that cannot be sent, and never its secret. The zero Auth is valid.
func (a Auth) Validate() error {
	if a.IsZero() {
		return nil
	}
	bad := func(field, format string, args ...any) error {
		return &FieldError{Op: "auth", Field: field, Reason: fmt.Sprintf(format, args...)}
	}
	text := a.Secret.Reveal()
	switch a.Kind {
	case authBearer:
		if a.Name != "" {
			return bad("Name", "is %q, but a bearer token has none", a.Name)
		}
		if reason := checkVisible(text); reason != "" {
			return bad("Secret", "%s", reason)
		}
	case authBasic:
		if strings.Contains(a.Name, ":") {
			return bad("Name", "has a colon, which ends the user")
		}
		if reason := checkLabel(a.Name); reason != "" {
			return bad("Name", "%s", reason)
		}
		if !h1.ValidValue(text) {
			return bad("Secret", "contains control characters")
		}
	case authHeader:
		if !h1.ValidName(a.Name) {
			return bad("Name", "%.40q is not a header name", a.Name)
		}
		if why := reserved(http.CanonicalHeaderKey(a.Name)); why != "" {
			return bad("Name", "%s %s", http.CanonicalHeaderKey(a.Name), why)
		}
		if !h1.ValidValue(text) || strings.Trim(text, " \t") != text {
			return bad("Secret", "contains control characters, or has white space around it")
		}
	default:
		return bad("Kind", "is %q, want bearer, basic or header", a.Kind)
	}
	if a.Secret.IsZero() {
		return &FieldError{Op: "auth", Field: "Secret", Reason: "is empty", Cause: ErrEmptySecret}
	}
	return nil
}

// header is what a sets, the name in canonical form; "" for nothing.
func (a Auth) header() (name, value string) {
	text := a.Secret.Reveal()
	switch a.Kind {
	case authBearer:
		value = "Bearer " + text
	case authBasic:
		value = "Basic " + base64.StdEncoding.EncodeToString([]byte(a.Name+":"+text))
	case authHeader:
		value = text
	}
	return a.headerName(), value
}

// headerName is the header that a sets, in canonical form; "" when it sets none.
func (a Auth) headerName() string {
	switch a.Kind {
	case "":
		return ""
	case authHeader:
		return http.CanonicalHeaderKey(a.Name)
	}
	return "Authorization"
}

// checkVisible says why a text is not one of visible ASCII characters, without showing it.
func checkVisible(s string) string {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return fmt.Sprintf("has a character at byte %d that is not visible ASCII", i)
		}
	}
	return ""
}
