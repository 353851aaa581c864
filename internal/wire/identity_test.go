package wire

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
)

// documentedIdentity is the one in docs/protocol.md, Device identity registry.
const documentedIdentity = `{
  "deviceId": "pi-1",
  "generationId": "638000000000000000",
  "etag": "MTIz",
  "connectionState": "Disconnected",
  "status": "enabled",
  "statusReason": null,
  "connectionStateUpdatedTime": "0001-01-01T00:00:00",
  "statusUpdatedTime": "0001-01-01T00:00:00",
  "lastActivityTime": "0001-01-01T00:00:00",
  "cloudToDeviceMessageCount": 0,
  "authentication": {
    "symmetricKey": {
      "primaryKey": "cHJpbWFyeQ==",
      "secondaryKey": "c2Vjb25kYXJ5"
    },
    "x509Thumbprint": {
      "primaryThumbprint": null,
      "secondaryThumbprint": null
    },
    "type": "sas"
  },
  "capabilities": {
    "iotEdge": false
  }
}`

func TestIdentityThereAndBack(t *testing.T) {
	var d Device
	decoder := json.NewDecoder(bytes.NewReader([]byte(documentedIdentity)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		t.Fatal(err)
	}
	if d.DeviceID != "pi-1" || d.Status != StatusEnabled || d.ConnectionState != Disconnected || d.StatusReason != nil ||
		d.Authentication.Type != AuthSAS || d.Authentication.SymmetricKey.PrimaryKey != "cHJpbWFyeQ==" || !d.LastActivityTime.IsZero() {
		t.Errorf("%+v", d)
	}
	got, err := json.MarshalIndent(d, "", "  ")
	if err != nil || string(got) != documentedIdentity {
		t.Errorf("%s, %v", got, err)
	}
}

// What the SDKs send to create a device (docs/protocol.md, Device identity registry).
func TestIdentityAsCreated(t *testing.T) {
	thumbprint := "AA11"
	for _, test := range []struct {
		text string
		want *Authentication
	}{
		{`{"deviceId":"pi-1","status":"enabled","authentication":{"type":"sas","symmetricKey":{"primaryKey":"","secondaryKey":""}}}`, &Authentication{Type: "sas"}},
		{`{"deviceId":"pi-1","authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"AA11"}}}`,
			&Authentication{Type: "selfSigned", X509Thumbprint: X509Thumbprint{PrimaryThumbprint: &thumbprint}}},
		{`{"deviceId":"pi-1","authentication":{"type":"certificateAuthority"}}`, &Authentication{Type: "certificateAuthority"}},
		{`{"deviceId":"pi-1"}`, nil},
		{`{"deviceId":"pi-1","authentication":null,"lastActivityTime":null}`, nil},
	} {
		var d Device
		if err := json.Unmarshal([]byte(test.text), &d); err != nil {
			t.Fatal(err)
		}
		got, _ := json.Marshal(d.Authentication)
		want, _ := json.Marshal(test.want)
		if d.DeviceID != "pi-1" || !bytes.Equal(got, want) {
			t.Errorf("%s: %s, want %s", test.text, got, want)
		}
	}
	if text, _ := json.Marshal(Device{}); bytes.Contains(text, []byte("authentication")) {
		t.Errorf("an identity without authentication has some: %s", text)
	}
}

func TestTwinThereAndBack(t *testing.T) {
	const text = `{"deviceId":"pi-1","etag":"AAAA","deviceEtag":"MTIz","status":"enabled","statusUpdateTime":"0001-01-01T00:00:00",` +
		`"connectionState":"Connected","lastActivityTime":"2026-01-02T03:04:05.678Z","cloudToDeviceMessageCount":0,` +
		`"authenticationType":"sas","x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},"version":2,"tags":{},` +
		`"properties":{"desired":{"$version":1},"reported":{"$version":1}},"capabilities":{"iotEdge":false}}`
	var twin Twin
	if err := json.Unmarshal([]byte(text), &twin); err != nil {
		t.Fatal(err)
	}
	if got, err := json.Marshal(twin); err != nil || string(got) != text {
		t.Errorf("%s, %v", got, err)
	}
	if text, _ := json.Marshal(StreamingEndpoints{[]string{"https://hub.example.test"}}); string(text) != `{"streamingEndpoints":["https://hub.example.test"]}` {
		t.Errorf("%s", text)
	}
}

func TestTime(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)
	for _, test := range []struct {
		text string
		want time.Time
		back string
	}{
		{`"0001-01-01T00:00:00"`, time.Time{}, `"0001-01-01T00:00:00"`},
		{`"0001-01-01T00:00:00Z"`, time.Time{}, `"0001-01-01T00:00:00"`},
		{`null`, time.Time{}, `"0001-01-01T00:00:00"`},
		{`"2026-01-02T03:04:05.6789"`, at, `"2026-01-02T03:04:05.678Z"`},
		{`"2026-01-02T03:04:05.6789000Z"`, at, `"2026-01-02T03:04:05.678Z"`},
		{`"2026-01-02T05:04:05.6789+02:00"`, at, `"2026-01-02T03:04:05.678Z"`},
		{`"2026-01-02T03:04:05"`, at.Truncate(time.Second), `"2026-01-02T03:04:05.000Z"`},
	} {
		got := Time{time.Now()}
		if err := got.UnmarshalJSON([]byte(test.text)); err != nil || !got.Equal(test.want) {
			t.Errorf("%s: %v, %v", test.text, got, err)
		}
		if back, err := json.Marshal(got); err != nil || string(back) != test.back {
			t.Errorf("%s became %s, %v", test.text, back, err)
		}
	}
	for _, text := range []string{`"yesterday"`, `""`, `5`, `{}`, `"2026-13-02T03:04:05Z"`, `"2026-01-02"`} {
		got := Time{at}
		if err := json.Unmarshal([]byte(text), &got); err == nil {
			t.Errorf("%s: %v", text, got)
		}
	}
}
