package h1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
)

// plain is the head of an answer that says nothing unusual about its body.
type plain struct {
	size   int // of the head itself, in bytes
	status int
	length int64 // of the body
	header http.Header
}

var headEnd = []byte("\r\n\r\n")

// parsePlain reads the head of an answer of the form that nearly all have: HTTP/1.1, a final status, a body of a length that is given once.
// Of its fields it keeps those named. It reports false for all else, errors included, of which net/http is the judge; what it does read it reads as
// net/http does.
func parsePlain(text []byte, fields []string) (p plain, ok bool) {
	end := bytes.Index(text, headEnd)
	if end < 0 {
		return p, false
	}
	p.size, p.length = end+len(headEnd), -1
	line, rest, _ := bytes.Cut(text[:end+2], headEnd[:2])
	if p.status, ok = parseStatus(line); !ok {
		return p, false
	}
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, headEnd[:2])
		if !p.add(line, fields) {
			return p, false
		}
	}
	if p.status == http.StatusNoContent && p.length < 0 {
		p.length = 0
	}
	return p, p.length >= 0 && p.status != http.StatusNotModified && (p.status != http.StatusNoContent || p.length == 0)
}

// parseStatus reads a status line: HTTP/1.1 200 OK.
func parseStatus(line []byte) (status int, ok bool) {
	const proto = "HTTP/1.1 "
	if len(line) < len(proto)+3 || string(line[:len(proto)]) != proto || len(line) > len(proto)+3 && line[len(proto)+3] != ' ' {
		return 0, false
	}
	n, ok := number(line[len(proto) : len(proto)+3])
	return int(n), ok && n >= 200 && printable(line)
}

// add takes in a field of the head. It reports false when that is for net/http to judge.
func (p *plain) add(line []byte, fields []string) bool {
	colon := bytes.IndexByte(line, ':')
	if colon < 0 || !isToken(line[:colon]) || !printable(line) {
		return false
	}
	name, value := line[:colon], bytes.Trim(line[colon+1:], " \t")
	switch {
	case is(name, "Content-Length"):
		n, ok := number(value)
		if !ok || p.length >= 0 {
			return false
		}
		p.length = n
	case is(name, "Connection"):
		return is(value, "keep-alive")
	case is(name, "Transfer-Encoding"), is(name, "Trailer"):
		return false
	}
	for _, field := range fields {
		if is(name, field) {
			if p.header == nil {
				p.header = make(http.Header)
			}
			p.header[field] = append(p.header[field], string(value))
		}
	}
	return true
}

// is reports whether text is s, in whatever case.
func is(text []byte, s string) bool { return len(text) == len(s) && strings.EqualFold(string(text), s) }

// number reads at most 15 digits.
func number(digits []byte) (n int64, ok bool) {
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, len(digits) > 0 && len(digits) <= 15
}

// isToken reports whether name is one (RFC 9110, 5.6.2) of letters, digits and hyphens.
func isToken(name []byte) bool {
	for _, c := range name {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}
	return len(name) > 0
}

// printable reports whether line has ASCII without control characters alone, and tabs.
func printable(line []byte) bool {
	for _, c := range line {
		if c < ' ' && c != '\t' || c >= 0x7f {
			return false
		}
	}
	return true
}

// bounded is a body of known length.
type bounded struct {
	from *bufio.Reader
	left int64
}

// Read implements [io.Reader]. The end comes together with the last bytes.
func (b *bounded) Read(p []byte) (n int, err error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err = b.from.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	switch {
	case b.left == 0 && err == nil:
		err = io.EOF
	case b.left > 0 && err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
