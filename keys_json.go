package webhook

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// jsonText reads a string or number at a path of object fields. Unlike a decode into a struct it matches names exactly, keeps a
// number's digits, and refuses a name that comes twice on the way: encoding/json takes the last, others the first.
func jsonText(body []byte, path ...string) (string, error) {
	if !json.Valid(body) {
		return "", keyErrorf(nil, "is not JSON")
	}
	return jsonFind(body, path...)
}

// jsonFind is jsonText for a body that json.Valid has accepted.
func jsonFind(body []byte, path ...string) (string, error) {
	if len(path) == 0 {
		return "", keyErrorf(nil, "has no field without a name")
	}
	s := jsonScan{data: body}
	for i, name := range path {
		found, err := s.field(name)
		if err != nil {
			return "", keyErrorf(path[:i+1], "%s", err.Error())
		}
		s = jsonScan{data: found}
	}
	return jsonValueText(path, s.data)
}

func jsonValueText(path []string, value []byte) (string, error) {
	switch c := value[0]; {
	case c == '-' || '0' <= c && c <= '9':
		return string(value), nil
	case c != '"':
		return "", keyErrorf(path, "is neither a string nor a number")
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return "", keyErrorf(path, "is not a string")
	}
	switch {
	case text == "":
		return "", keyErrorf(path, "is empty")
	case strings.ContainsRune(text, utf8.RuneError):
		// Decoding makes all bad bytes and lone surrogates the same character, so that different values would look alike.
		return string(value), nil
	}
	return text, nil
}

// jsonScan walks JSON that json.Valid has accepted, so it checks nothing again.
type jsonScan struct {
	data []byte
	pos  int
}

type jsonError string

func (e jsonError) Error() string { return string(e) }

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
	if !strings.ContainsRune(string(inner), '\\') {
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
	for s.pos++; s.data[s.pos] != '"'; s.pos++ {
		if s.data[s.pos] == '\\' {
			s.pos++
		}
	}
	s.pos++
}

// scalar passes a number, true, false or null.
func (s *jsonScan) scalar() {
	for s.pos < len(s.data) && !strings.ContainsRune(",:]} \t\r\n", rune(s.data[s.pos])) {
		s.pos++
	}
}
