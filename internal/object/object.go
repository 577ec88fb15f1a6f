// Package object reads JSON objects field by field, and writes them. Unlike encoding/json with structs it matches names exactly, refuses a name that
// comes twice, keeps numbers exact, keeps what it does not know, and says which field is wrong.
package object

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/internal/jsonscan"
)

// Object is an object that is being read. What was read is taken out; the first error stays. A nil one is no object, and all its fields are absent.
type Object struct {
	op, path string
	fields   map[string]json.RawMessage
	err      *error // shared by all that one Parse gave
}

// Parse reads an object. op is for errors, as "gett".
func Parse(op string, data []byte) *Object {
	o := &Object{op: op, err: new(error)}
	o.read(data)
	return o
}

// read takes the fields apart. Their values are parts of data, not copies.
func (o *Object) read(data []byte) {
	if !jsonscan.Valid(data) {
		o.fail("", "is not JSON")
		return
	}
	fields := make(map[string]json.RawMessage, 8)
	is := jsonscan.Object(data, func(literal, value []byte) {
		name := text(literal)
		if _, twice := fields[name]; twice {
			o.fail(name, "is there twice")
			return
		}
		fields[name] = value
	})
	if !is {
		o.fail("", "is not an object")
		return
	}
	o.fields = fields
}

// text is what a JSON string means.
func text(literal []byte) string {
	inner, plain := jsonscan.Plain(literal)
	if !plain {
		var t string
		_ = json.Unmarshal(literal, &t) // it is valid
		return t
	}
	return string(inner)
}

// fail notes the first error; name is of a field, "" the object itself.
func (o *Object) fail(name, reason string) {
	if *o.err == nil {
		*o.err = &webhook.FieldError{Op: o.op, Field: o.at(name), Reason: reason}
	}
}

func (o *Object) at(name string) string {
	switch {
	case o.path == "" && name == "":
		return "payload"
	case o.path == "" || name == "":
		return o.path + name
	}
	return o.path + "." + name
}

// Fail makes a field wrong for a reason of the caller's.
func (o *Object) Fail(name, reason string) { o.fail(name, reason) }

// Err is the first error, a [*webhook.FieldError].
func (o *Object) Err() error { return *o.err }

// take takes a field out; false: it is absent, or null, which is the same here.
func (o *Object) take(name string) (json.RawMessage, bool) {
	if o == nil {
		return nil, false
	}
	value, ok := o.fields[name]
	delete(o.fields, name)
	if !ok || string(value) == "null" {
		return nil, false
	}
	return value, true
}

// Raw is a field as it is; nil: absent.
func (o *Object) Raw(name string) json.RawMessage {
	value, _ := o.take(name)
	return value
}

// Text is a string; "": absent.
func (o *Object) Text(name string) string {
	value, ok := o.take(name)
	if !ok {
		return ""
	}
	if value[0] != '"' {
		o.fail(name, "is "+shown(value)+", want a string")
		return ""
	}
	return text(value)
}

// Must is Text for what has to be there.
func (o *Object) Must(name string) string {
	text := o.Text(name)
	if text == "" && o != nil {
		o.fail(name, "is missing or empty")
	}
	return text
}

// Int is an integer that fits 64 bits; ok is false when it is absent. 1.0 and 1e3 are none.
func (o *Object) Int(name string) (n int64, ok bool) {
	value, ok := o.take(name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		o.fail(name, "is "+shown(value)+", want an integer of at most 64 bits")
	}
	return n, err == nil
}

// MustInt is Int for what has to be there.
func (o *Object) MustInt(name string) int64 {
	n, ok := o.Int(name)
	if !ok && o != nil {
		o.fail(name, "is missing")
	}
	return n
}

// Time is an RFC 3339 time, exact to the nanosecond; zero: absent.
func (o *Object) Time(name string) time.Time {
	text := o.Text(name)
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		o.fail(name, fmt.Sprintf("is %.60q, want an RFC 3339 time", text))
	}
	return at
}

// Object is an object within; nil: absent.
func (o *Object) Object(name string) *Object {
	value, ok := o.take(name)
	if !ok {
		return nil
	}
	return o.within(name, value)
}

func (o *Object) within(name string, value json.RawMessage) *Object {
	in := &Object{op: o.op, path: o.at(name), err: o.err}
	in.read(value)
	return in
}

// Objects are those of a list; nil: absent, and not nil when the list is empty.
func (o *Object) Objects(name string) []*Object {
	value, ok := o.take(name)
	if !ok {
		return nil
	}
	var items []json.RawMessage
	if value[0] != '[' || json.Unmarshal(value, &items) != nil {
		o.fail(name, "is "+shown(value)+", want a list")
		return nil
	}
	list := make([]*Object, len(items))
	for i, item := range items {
		list[i] = o.within(fmt.Sprintf("%s[%d]", name, i), item)
	}
	return list
}

// Rest is what was not taken; nil: nothing.
func (o *Object) Rest() map[string]json.RawMessage {
	if o == nil || len(o.fields) == 0 {
		return nil
	}
	return o.fields
}

// shown is a value for an error: payloads may be personal and long, so only numbers, true and false are.
func shown(value json.RawMessage) string {
	switch value[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "a list"
	}
	return string(value[:min(len(value), 40)])
}

// Field is one to be written.
type Field struct {
	Name  string
	Value any
	Omit  bool // it is not
}

// Marshal writes an object: the fields in their order, then the rest by name. A name of the rest that a field has is left out.
func Marshal(rest map[string]json.RawMessage, fields ...Field) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	written := map[string]bool{}
	put := func(name string, value any) error {
		if len(written) > 0 {
			b.WriteByte(',')
		}
		written[name] = true
		if err := encoder.Encode(name); err != nil {
			return err
		}
		b.Truncate(b.Len() - 1) // the line end
		b.WriteByte(':')
		if err := encoder.Encode(value); err != nil {
			return err
		}
		b.Truncate(b.Len() - 1)
		return nil
	}
	b.WriteByte('{')
	for _, f := range fields {
		if f.Omit {
			continue
		}
		if err := put(f.Name, f.Value); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		if written[name] {
			continue
		}
		if err := put(name, rest[name]); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
