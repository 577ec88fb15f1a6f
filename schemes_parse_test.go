package webhook

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestOneHeader(t *testing.T) {
	for _, tc := range []struct {
		header http.Header
		value  string
		want   error
	}{
		{http.Header{"X-Sig": {"v"}}, "v", nil},
		{http.Header{"x-sig": {"v"}}, "v", nil},
		{http.Header{"X-SIG": {"v"}}, "v", nil},
		{http.Header{"X-Sig": {strings.Repeat("v", 4096)}}, strings.Repeat("v", 4096), nil},
		{nil, "", ErrHeaderMissing},
		{http.Header{}, "", ErrHeaderMissing},
		{http.Header{"X-Sig": nil}, "", ErrHeaderMissing},
		{http.Header{"X-Signature": {"v"}}, "", ErrHeaderMissing},
		{http.Header{"X-Sig": {""}}, "", ErrHeaderEmpty},
		{http.Header{"X-Sig": {"v", "v"}}, "", ErrHeaderRepeated},
		{http.Header{"X-Sig": {"v", "v", "w"}}, "", ErrHeaderContradicts},
		{http.Header{"x-sig": {"v"}, "X-SIG": {"v"}}, "", ErrHeaderRepeated},
		{http.Header{"x-sig": {"v"}, "X-SIG": {"w"}}, "", ErrHeaderContradicts},
		{http.Header{"X-Sig": {strings.Repeat("v", 4097)}}, "", ErrHeaderTooLong},
	} {
		for _, name := range []string{"X-Sig", "x-sig"} {
			got, err := OneHeader(tc.header, name)
			what := fmt.Sprintf("%.60v of %s", tc.header, name)
			assertCause(t, what, err, tc.want)
			if got != tc.value {
				t.Errorf("%s: %q", what, got)
			}
		}
	}
}

// base64Cases are forms of the digest of 32 bytes 0xfb, whose base64 has + and / and ends in "s=".
var base64Cases = []struct {
	text string
	want error
}{
	{"+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=", nil},
	{"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", nil},
	{"+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/t=", ErrSignatureNotCanonical}, // one trailing bit set
	{"+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/u=", ErrSignatureNotCanonical},
	{"+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s", ErrSignatureNotCanonical},   // no padding
	{"+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s==", ErrSignatureNotCanonical}, // too much
	{"-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s=", ErrSignatureNotCanonical},  // URL alphabet
	{"-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s", ErrSignatureNotCanonical},
	{"+_v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=", ErrSignatureNotCanonical}, // both alphabets
	{"", ErrSignatureTruncated},
	{"=", ErrSignatureTruncated},
	{"+/v7", ErrSignatureTruncated},
	{"+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/==", ErrSignatureTruncated}, // 31 bytes
	{"+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7", ErrHeaderTooLong},      // 33 bytes
	{strings.Repeat("A", 4096), ErrHeaderTooLong},
	{strings.Repeat("=", 5000), ErrHeaderTooLong},
	{strings.Repeat("\x00", 5000), ErrHeaderTooLong},
	{"+/v7+/v7+/v7+/v7+/v7\n+/v7+/v7+/v7+/v7+/v7+/s=", ErrHeaderMalformed}, // the decoder would skip it
	{"+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=\r\n", ErrHeaderMalformed},
	{"+/v7+/v7+/v7+/v7+/v7=+/v7+/v7+/v7+/v7+/v7+/s=", ErrHeaderMalformed},
	{" +/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=", ErrHeaderMalformed},
	{"%2B/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=", ErrHeaderMalformed},
	{"\xff/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=", ErrHeaderMalformed},
}

func TestDecodeBase64(t *testing.T) {
	for _, tc := range base64Cases {
		got, err := DecodeBase64(tc.text)
		what := fmt.Sprintf("%.60q", tc.text)
		assertCause(t, what, err, tc.want)
		if err == nil && base64.StdEncoding.EncodeToString(got[:]) != tc.text {
			t.Errorf("%s: decoded to %x", what, got)
		}
	}
}

func FuzzDecodeBase64(f *testing.F) {
	for _, tc := range base64Cases {
		f.Add(tc.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := DecodeBase64(text)
		want, wantErr := base64.StdEncoding.DecodeString(text)
		canonical := wantErr == nil && len(want) == 32 && base64.StdEncoding.EncodeToString(want) == text
		if canonical != (err == nil) || canonical && string(got[:]) != string(want) {
			t.Fatalf("%q: %x, %v", text, got, err)
		}
	})
}

func FuzzDecodeHex(f *testing.F) {
	f.Add(gettSignature)
	f.Add(strings.ToUpper(gettSignature))
	f.Add(gettSignature[1:])
	f.Add(gettSignature + "00")
	f.Add("x" + gettSignature[1:])
	f.Fuzz(func(t *testing.T, text string) {
		got, err := DecodeHex(text)
		want, wantErr := hex.DecodeString(text)
		good := wantErr == nil && len(want) == 32
		if good != (err == nil) || good && string(got[:]) != string(want) {
			t.Fatalf("%q: %x, %v", text, got, err)
		}
	})
}
