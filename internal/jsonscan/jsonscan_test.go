package jsonscan

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestObject(t *testing.T) {
	for _, tc := range []struct {
		text string
		want []string // names and values; nil: not an object
	}{
		{`{}`, []string{}},
		{" { } ", []string{}},
		{`{"a":1}`, []string{`"a"`, `1`}},
		{" {\n\"a\" :\t[1, {\"b\": \"]}\"} ] , \"a\":null,\"\\u0061\":\"\\\"}\" } ", []string{`"a"`, `[1, {"b": "]}"} ]`, `"a"`, `null`, `"\u0061"`, `"\"}"`}},
		{`[{"a":1}]`, nil},
		{`"{}"`, nil},
		{`12`, nil},
	} {
		got := []string{}
		if !Object([]byte(tc.text), func(name, value []byte) { got = append(got, string(name), string(value)) }) {
			got = nil
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.text, diff)
		}
	}
}

func TestPlain(t *testing.T) {
	for literal, want := range map[string]bool{`""`: true, `"a b"`: true, `"a\"b"`: false, `"\u0061"`: false, `"é"`: false} {
		if inner, plain := Plain([]byte(literal)); plain != want || string(inner) != literal[1:len(literal)-1] {
			t.Errorf("%s: %s, %t", literal, inner, plain)
		}
	}
}
