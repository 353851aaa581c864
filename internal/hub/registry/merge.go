package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/farportio/farport/internal/wire"
)

// What a twin's documents may hold, besides wire.MaxTwinPart bytes of JSON each.
// Source: docs/protocol.md, Twins.
const (
	maxTwinDepth  = 10 // objects and arrays within one another, the document not counted
	maxTwinName   = 1024
	maxTwinString = 4096 // bytes
)

// The two names in a document that are the hub's own.
const (
	nameVersion  = "$version"
	nameMetadata = "$metadata"
)

// parsePatch reads a document, or a patch of one, that somebody sent: one JSON object
// within the limits. "$version" and "$metadata" are left out; numbers keep their text.
// Error: *InvalidError about the given field.
func parsePatch(field string, data []byte) (map[string]any, error) {
	invalid := func(problem string) error { return &InvalidError{field, problem} }
	switch {
	case len(data) > wire.MaxTwinPart:
		return nil, invalid(fmt.Sprintf("must be at most %d bytes", wire.MaxTwinPart))
	case !utf8.Valid(data):
		return nil, invalid("is not UTF-8")
	}
	patch, err := decodeObject(data)
	if err != nil || patch == nil {
		return nil, invalid("must be one JSON object")
	}
	delete(patch, nameVersion)
	delete(patch, nameMetadata)
	if problem := checkValue(patch, 0); problem != "" {
		return nil, invalid(problem)
	}
	return patch, nil
}

// normalPatch is parsePatch for what has been decoded already. The result shares
// nothing with doc.
func normalPatch(field string, doc map[string]any) (map[string]any, error) {
	doc = maps.Clone(doc)
	delete(doc, nameVersion) // here already, for the sake of the size
	delete(doc, nameMetadata)
	data, err := encodeJSON(doc)
	if err != nil {
		return nil, &InvalidError{field, "is not JSON"}
	}
	return parsePatch(field, data)
}

// checkDocument checks the size of what a document has become.
func checkDocument(field string, doc map[string]any) error {
	data, err := encodeJSON(doc)
	if err != nil {
		return err
	}
	if len(data) > wire.MaxTwinPart {
		return &InvalidError{field, fmt.Sprintf("would have %d bytes, more than %d", len(data), wire.MaxTwinPart)}
	}
	return nil
}

// decodeObject decodes one JSON object and nothing behind it; null gives nil.
func decodeObject(data []byte) (object map[string]any, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&object); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("trailing data")
	}
	return object, nil
}

// encodeJSON is json.Marshal without escapes for HTML, which would count in sizes.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// checkValue returns what is wrong with a decoded value that is depth levels below its
// document, "" for nothing.
func checkValue(value any, depth int) string {
	switch v := value.(type) {
	case string:
		if len(v) > maxTwinString {
			return fmt.Sprintf("a string has %d bytes, more than %d", len(v), maxTwinString)
		}
	case map[string]any:
		if depth > maxTwinDepth {
			return tooDeep()
		}
		for name, below := range v {
			if problem := checkName(name); problem != "" {
				return problem
			}
			if problem := checkValue(below, depth+1); problem != "" {
				return problem
			}
		}
	case []any:
		if depth > maxTwinDepth {
			return tooDeep()
		}
		for _, below := range v {
			if problem := checkValue(below, depth+1); problem != "" {
				return problem
			}
		}
	}
	return ""
}

func tooDeep() string { return fmt.Sprintf("is nested more than %d levels deep", maxTwinDepth) }

func checkName(name string) string {
	bad := func(r rune) bool { return unicode.IsControl(r) || strings.ContainsRune(".$ ", r) }
	switch {
	case name == "":
		return "a name is empty"
	case len(name) > maxTwinName:
		return fmt.Sprintf("a name has %d bytes, more than %d", len(name), maxTwinName)
	case strings.ContainsFunc(name, bad):
		return fmt.Sprintf("the name %q has a dot, a dollar sign, a space or a control character", name[:min(len(name), 64)])
	}
	return ""
}

// mergeObject returns what becomes of an object, nil for none, when patch is merged into
// it: null deletes, objects merge, anything else replaces. Both stay as they are; the
// result shares values with them.
func mergeObject(current, patch map[string]any) map[string]any {
	merged := make(map[string]any, len(current))
	maps.Copy(merged, current)
	for name, value := range patch {
		switch v := value.(type) {
		case nil:
			delete(merged, name)
		case map[string]any:
			below, _ := merged[name].(map[string]any)
			merged[name] = mergeObject(below, v)
		default:
			merged[name] = value
		}
	}
	return merged
}
