package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// jsonText reads a string or number at a path of object fields. Unlike a decode into a struct it matches names exactly, keeps a
// number's digits, and refuses a name that comes twice on the way: encoding/json takes the last, others the first.
func jsonText(body []byte, path ...string) (string, error) {
	if !jsonValid(body) {
		return "", keyError("body", "is not JSON")
	}
	if len(path) == 0 {
		return "", keyError("body", "has no field without a name")
	}
	text, err := jsonFind(body, path...)
	if err != nil {
		return "", keyError(fmt.Sprintf("body field %q", strings.Join(path, ".")), err.Error())
	}
	return text, nil
}

// jsonError says in words what is wrong with a field.
type jsonError string

func (e jsonError) Error() string { return string(e) }

// jsonFind is jsonText for a body that jsonValid has accepted. Its errors are jsonErrors.
func jsonFind(body []byte, path ...string) (string, error) {
	value := body
	for _, name := range path {
		var err error
		if value, err = jsonField(value, name); err != nil {
			return "", err
		}
	}
	return jsonValueText(value)
}

// jsonField is the one value under name in the object that data is.
func jsonField(data []byte, name string) ([]byte, error) {
	s := jsonScan{data: data}
	return s.field(name)
}

func jsonValueText(value []byte) (string, error) {
	switch c := value[0]; {
	case c == '-' || '0' <= c && c <= '9':
		return string(value), nil
	case c != '"':
		return "", jsonError("is neither a string nor a number")
	}
	if inner := value[1 : len(value)-1]; len(inner) > 0 && plainASCII(inner) {
		return string(inner), nil
	}
	var text string
	if json.Unmarshal(value, &text) != nil || text == "" {
		return "", jsonError("is empty")
	}
	if strings.ContainsRune(text, utf8.RuneError) {
		// Decoding makes all bad bytes and lone surrogates the same character, so that different values would look alike.
		return string(value), nil
	}
	return text, nil
}

// plainASCII reports whether a string's inside means itself.
func plainASCII(inner []byte) bool {
	for _, c := range inner {
		if c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// jsonScan walks JSON. Once jsonValid has accepted it, nothing is checked again.
type jsonScan struct {
	data []byte
	pos  int
}

// field finds the one value under name in the object that data is.
func (s *jsonScan) field(name string) ([]byte, error) {
	s.space()
	if s.data[s.pos] != '{' {
		return nil, jsonError("is not in an object")
	}
	s.pos++
	var found []byte
	for s.space(); s.data[s.pos] != '}'; s.space() {
		if s.data[s.pos] == ',' {
			s.pos++
			s.space()
		}
		matches := jsonNameIs(s.value(), name)
		s.space()
		s.pos++ // ':'
		s.space()
		value := s.value()
		if !matches {
			continue
		}
		if found != nil {
			return nil, jsonError("is there twice")
		}
		found = value
	}
	if found == nil {
		return nil, jsonError("is missing")
	}
	return found, nil
}

func jsonNameIs(literal []byte, name string) bool {
	inner := literal[1 : len(literal)-1]
	if string(inner) == name {
		return true
	}
	if bytes.IndexByte(inner, '\\') < 0 {
		return false
	}
	var text string
	return json.Unmarshal(literal, &text) == nil && text == name
}

func (s *jsonScan) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

// value passes one value and returns it.
func (s *jsonScan) value() []byte {
	start, depth := s.pos, 0
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case '"':
			s.str()
		case '{', '[':
			depth++
			s.pos++
			continue
		case '}', ']':
			depth--
			s.pos++
		case ',', ':', ' ', '\t', '\r', '\n':
			s.pos++
			continue
		default:
			s.scalar()
		}
		if depth == 0 {
			break
		}
	}
	return s.data[start:s.pos]
}

// str passes a string.
func (s *jsonScan) str() {
	s.pos++
	for s.plain(); s.data[s.pos] != '"'; s.plain() {
		s.pos += 2 // a backslash and what it escapes
	}
	s.pos++
}

// scalar passes a number, true, false or null.
func (s *jsonScan) scalar() {
	for s.pos < len(s.data) && strings.IndexByte(",:]} \t\r\n", s.data[s.pos]) < 0 {
		s.pos++
	}
}
