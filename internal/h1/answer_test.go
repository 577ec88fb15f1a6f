package h1

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

var wanted = []string{"Retry-After", "X-Other"}

// What is read here, not by net/http, is what nearly all receivers answer; what could be framed in another way is not.
func TestParsePlain(t *testing.T) {
	ok := func(head string) string { return "HTTP/1.1 200 OK\r\n" + head + "\r\n" }
	for name, tc := range map[string]struct {
		text string
		want bool
	}{
		"go":                     {ok("Content-Type: text/plain; charset=utf-8\r\nDate: Sun, 22 Nov 2026 10:00:00 GMT\r\nContent-Length: 2\r\n") + "ok", true},
		"empty":                  {ok("content-length:0\r\n"), true},
		"without a reason":       {"HTTP/1.1 503\r\nContent-Length: 0\r\nRetry-After: 7\r\n\r\n", true},
		"no content":             {"HTTP/1.1 204 No Content\r\n\r\n", true},
		"keep-alive":             {ok("Connection: Keep-Alive\r\nContent-Length: 0\r\n"), true},
		"closed":                 {ok("Connection: close\r\nContent-Length: 0\r\n"), false},
		"two words":              {ok("Connection: keep-alive, close\r\nContent-Length: 0\r\n"), false},
		"chunked":                {ok("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", false},
		"chunked, with a length": {ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n", false},
		"trailer":                {ok("Trailer: X\r\nContent-Length: 0\r\n"), false},
		"until the end":          {ok(""), false},
		"two lengths":            {ok("Content-Length: 1\r\nContent-Length: 2\r\n") + "xy", false},
		"the same length twice":  {ok("Content-Length: 1\r\nContent-Length: 1\r\n") + "x", false},
		"signed":                 {ok("Content-Length: +1\r\n") + "x", false},
		"two numbers":            {ok("Content-Length: 1, 1\r\n") + "x", false},
		"no number":              {ok("Content-Length: \r\n"), false},
		"hexadecimal":            {ok("Content-Length: 0x1\r\n") + "x", false},
		"overflow":               {ok("Content-Length: 18446744073709551617\r\n") + "x", false},
		"space before the colon": {ok("Content-Length : 1\r\n") + "x", false},
		"folded":                 {ok("X: a\r\n Content-Length: 1\r\nContent-Length: 0\r\n"), false},
		"folded first":           {ok(" X: a\r\nContent-Length: 0\r\n"), false},
		"bare line feed":         {ok("X: a\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n"), false},
		"bare carriage return":   {ok("X: a\rY: b\r\nContent-Length: 0\r\n"), false},
		"NUL":                    {ok("X: a\x00\r\nContent-Length: 0\r\n"), false},
		"no colon":               {ok("X\r\nContent-Length: 0\r\n"), false},
		"no name":                {ok(": x\r\nContent-Length: 0\r\n"), false},
		"HTTP/1.0":               {"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false},
		"interim":                {"HTTP/1.1 102 Processing\r\nContent-Length: 0\r\n\r\n", false},
		"switching":              {"HTTP/1.1 101 x\r\nContent-Length: 0\r\n\r\n", false},
		"not modified":           {"HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n", false},
		"no content of a length": {"HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n", false},
		"four digits":            {"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", false},
		"unfinished":             {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", false},
		"other":                  {"SSH-2.0-x\r\n\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := comparePlain(t, tc.text); got != tc.want {
				t.Errorf("read here: %v, want %v", got, tc.want)
			}
		})
	}
}

// FuzzPlain holds what is read here against net/http, whose reading of the same bytes must be the same: status, fields, body, and where it ends.
func FuzzPlain(f *testing.F) {
	for _, text := range []string{
		empty, empty + "HTTP/1.1 500 x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nRetry-After: 1\r\nX-Other:\t a \r\nretry-after: 2\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabcdef",
		"HTTP/1.1 204 \r\nDate: x\r\n\r\n", "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nshort",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { comparePlain(t, text) })
}

// comparePlain reports whether text is read here, and fails if net/http reads it otherwise.
func comparePlain(t *testing.T, text string) bool {
	p, ok := parsePlain([]byte(text), wanted)
	if !ok {
		return false
	}
	req := &http.Request{Method: http.MethodPost}
	theirs := bufio.NewReader(strings.NewReader(text))
	resp, err := http.ReadResponse(theirs, req)
	if err != nil {
		t.Fatalf("net/http does not read it: %v", err)
	}
	if resp.Close || resp.StatusCode != p.status || resp.ContentLength != p.length || resp.TransferEncoding != nil || resp.Trailer != nil {
		t.Errorf("net/http reads status %d, %d bytes, close %v; here it is %d, %d bytes", resp.StatusCode, resp.ContentLength, resp.Close, p.status, p.length)
	}
	for _, field := range wanted {
		if d := cmp.Diff(resp.Header[field], p.header[field]); d != "" {
			t.Errorf("%s (-net/http +here):\n%s", field, d)
		}
	}
	ours := bufio.NewReader(strings.NewReader(text))
	_, _ = ours.Discard(p.size)
	want, wantErr := io.ReadAll(iotest.OneByteReader(resp.Body))
	got, gotErr := io.ReadAll(iotest.OneByteReader(&bounded{from: ours, left: p.length}))
	if string(got) != string(want) || !errors.Is(gotErr, wantErr) {
		t.Errorf("body %.40q, %v; net/http has %.40q, %v", got, gotErr, want, wantErr)
	}
	wantRest, _ := io.ReadAll(theirs)
	if rest, _ := io.ReadAll(ours); string(rest) != string(wantRest) {
		t.Errorf("then comes %.40q; for net/http %.40q", rest, wantRest)
	}
	return true
}

// An error that comes together with the last bytes is one: the connection is not to be kept.
func TestErrorWithTheLastBytes(t *testing.T) {
	broken := errors.New("broken")
	text := strings.Repeat("x", 16)
	b := &bounded{from: bufio.NewReaderSize(iotest.DataErrReader(io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken))), 16), left: 16}
	p := make([]byte, 32)
	if n, err := b.Read(p); n != 16 || err != broken {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

func BenchmarkReadHead(b *testing.B) {
	const text = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nDate: Sun, 22 Nov 2026 10:00:00 GMT\r\nContent-Length: 2\r\n\r\nok"
	b.Run("here", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if p, ok := parsePlain([]byte(text), wanted); !ok || p.length != 2 {
				b.Fatal("not read")
			}
		}
	})
	b.Run("net/http", func(b *testing.B) {
		b.ReportAllocs()
		from := strings.NewReader(text)
		r := bufio.NewReader(from)
		for b.Loop() {
			from.Reset(text)
			r.Reset(from)
			if _, err := http.ReadResponse(r, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
