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
	f := [...]jsonMember{{name: name}}
	if err := jsonFields(data, f[:]); err != nil {
		return nil, err
	}
	return f[0].only()
}

// jsonMember is a name to look for in an object, and what was found under it.
type jsonMember struct {
	name  string
	value []byte // the first
	times int
}

// only is the value if there is one alone.
func (m *jsonMember) only() ([]byte, error) {
	switch m.times {
	case 0:
		return nil, jsonError("is missing")
	case 1:
		return m.value, nil
	}
	return nil, jsonError("is there twice")
}

// text is the value if it is a string or number and there is one alone.
func (m *jsonMember) text() (string, error) {
	value, err := m.only()
	if err != nil {
		return "", err
	}
	return jsonValueText(value)
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

// jsonFields finds members of the object that data is, all in one pass.
func jsonFields(data []byte, members []jsonMember) error {
	s := jsonScan{data: data}
	s.space()
	if s.data[s.pos] != '{' {
		return jsonError("is not in an object")
	}
	s.pos++
	for s.space(); s.data[s.pos] != '}'; s.space() {
		if s.data[s.pos] == ',' {
			s.pos++
			s.space()
		}
		name := s.value()
		s.space()
		s.pos++ // ':'
		s.space()
		value := s.value()
		for i := range members {
			m := &members[i]
			if !jsonNameIs(name, m.name) {
				continue
			}
			if m.times++; m.times == 1 {
				m.value = value
			}
		}
	}
	return nil
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
