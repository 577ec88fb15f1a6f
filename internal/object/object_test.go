package object

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"testing"
)

// What is read is what encoding/json reads, names that come twice apart.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		`{"a":1,"b":"x\"y\\","c":{"d":[1,2,{"e":null}]},"":[],"\u0061\u00e9":true}`, ` { "a" : [ 1 , 2 ] , "b" : -1.5e+7 } `, `{"a":{},"b":[[]]}`,
		`{}`, `[]`, `{"a":1,"a":2}`, `{"a":"\ud800"}`, "{\"\xff\":\"\xff\"}", `"x"`, `{"a"`, ``, `nul`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o := Parse("test", data)
		var want map[string]json.RawMessage
		if err := json.Unmarshal(data, &want); err != nil || want == nil {
			if o.Err() == nil {
				t.Fatalf("%q was read, but encoding/json says %v", data, err)
			}
			return
		}
		if o.Err() != nil {
			if o.Err().Error()[len(o.Err().Error())-5:] != "twice" {
				t.Fatalf("%q: %v", data, o.Err())
			}
			return
		}
		if !maps.EqualFunc(want, o.fields, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Fatalf("%q: %q, want %q", data, o.fields, want)
		}
		for _, name := range slices.Sorted(maps.Keys(want)) {
			var text string
			if want[name][0] == '"' && json.Unmarshal(want[name], &text) == nil {
				if got := o.Text(name); got != text || o.Err() != nil {
					t.Fatalf("%q: %q is %q, want %q, %v", data, name, got, text, o.Err())
				}
			}
		}
	})
}

// Reading a field leaves it out of the rest, and what was read does not grow into what lies behind it.
func TestRest(t *testing.T) {
	data := []byte(`{"a":[1],"b":2,"c":null}`)
	o := Parse("test", data)
	raw := o.Raw("a")
	_ = append(raw, "XXX"...)
	if string(data) != `{"a":[1],"b":2,"c":null}` {
		t.Errorf("data became %s", data)
	}
	if o.Raw("c") != nil || o.Raw("d") != nil {
		t.Error("null and nothing are not absent")
	}
	if rest := o.Rest(); len(rest) != 1 || string(rest["b"]) != "2" || o.Err() != nil {
		t.Errorf("rest %q, %v", rest, o.Err())
	}
	var none *Object
	if none.Text("a") != "" || none.Must("a") != "" || none.MustInt("a") != 0 || none.Objects("a") != nil || none.Object("a") != nil || none.Rest() != nil {
		t.Error("a nil object has something")
	}
}

func TestMarshal(t *testing.T) {
	got, err := Marshal(map[string]json.RawMessage{"z": json.RawMessage("1.10"), "b": json.RawMessage("9"), "a": json.RawMessage(`"<"`)},
		Field{Name: "b", Value: "x&y"}, Field{Name: "gone", Value: 1, Omit: true}, Field{Name: "n", Value: int64(1) << 62})
	if want := `{"b":"x&y","n":4611686018427387904,"a":"<","z":1.10}`; string(got) != want || err != nil {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
	if got, err := Marshal(nil); string(got) != "{}" || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := Marshal(map[string]json.RawMessage{"a": json.RawMessage("{")}); err == nil {
		t.Error("what is no JSON was written")
	}
}
