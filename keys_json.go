package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/signalpost/webhook/internal/jsonscan"
)

// jsonText reads a string or number at a path of object fields. Unlike a decode into a struct it matches names exactly, keeps a
// number's digits, and refuses a name that comes twice on the way: encoding/json takes the last, others the first.
func jsonText(body []byte, path ...string) (string, error) {
	if !jsonscan.Valid(body) {
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

// jsonFind is jsonText for a body that jsonscan.Valid has accepted. Its errors are jsonErrors.
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
	if inner, plain := jsonscan.Plain(value); plain && len(inner) > 0 {
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

// jsonFields finds members of the object that data is, all in one pass.
func jsonFields(data []byte, members []jsonMember) error {
	is := jsonscan.Object(data, func(name, value []byte) {
		for i := range members {
			m := &members[i]
			if !jsonNameIs(name, m.name) {
				continue
			}
			if m.times++; m.times == 1 {
				m.value = value
			}
		}
	})
	if !is {
		return jsonError("is not in an object")
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
