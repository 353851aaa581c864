package profile

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/farportio/farport/internal/credential"
)

const text = "HostName=h;SharedAccessKeyName=service;SharedAccessKey=c2VjcmV0"

func TestStore(t *testing.T) {
	s := Store{Dir: filepath.Join(t.TempDir(), "config", "farport")}
	if names, err := s.Names(); err != nil || names != nil {
		t.Errorf("nothing there: %v, %v", names, err)
	}
	if current, err := s.Current(); err != nil || current != "" {
		t.Errorf("nothing there: %q, %v", current, err)
	}
	if err := s.Use("work"); !errors.Is(err, ErrNotFound) {
		t.Errorf("use what is not there: %v", err)
	}
	if _, err := s.Remove("work"); !errors.Is(err, ErrNotFound) {
		t.Errorf("remove what is not there: %v", err)
	}
	for _, name := range []string{"work", "a.b_c-9"} {
		if err := s.Save(Profile{Name: name, ConnectionString: text, CA: "pem"}, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Save(Profile{Name: "work", ConnectionString: "other"}, false); !errors.Is(err, ErrExists) {
		t.Errorf("add a second time: %v", err)
	}
	if p, err := s.Load("work"); err != nil || p != (Profile{"work", text, "", "pem"}) {
		t.Errorf("%+v, %v", p, err)
	}
	if err := s.Save(Profile{Name: "work", ConnectionString: text, Keyring: "k"}, true); err != nil {
		t.Error(err)
	}
	if p, err := s.Load("work"); err != nil || p.Keyring != "k" || p.CA != "" {
		t.Errorf("replaced: %+v, %v", p, err)
	}
	if err := s.Use("work"); err != nil {
		t.Error(err)
	}
	if names, err := s.Names(); err != nil || !slices.Equal(names, []string{"a.b_c-9", "work"}) {
		t.Errorf("%v, %v", names, err)
	}
	if was, err := s.Remove("a.b_c-9"); err != nil || was {
		t.Errorf("remove another: %v, %v", was, err)
	}
	if current, err := s.Current(); err != nil || current != "work" {
		t.Errorf("%q, %v", current, err)
	}
	if was, err := s.Remove("work"); err != nil || !was {
		t.Errorf("remove the current one: %v, %v", was, err)
	}
	if entries, err := os.ReadDir(s.Dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // it has none
	}
	s := Store{Dir: filepath.Join(t.TempDir(), "config", "farport")}
	if err := s.Save(Profile{Name: "work", ConnectionString: text}, false); err != nil {
		t.Fatal(err)
	}
	if err := s.Use("work"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{s.Dir: 0o700, filepath.Dir(s.Dir): 0o700, s.Path("work"): 0o600, filepath.Join(s.Dir, fileCurrent): 0o600} {
		info, err := os.Lstat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
}

func TestNames(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	for _, name := range []string{"", ".", "..", ".hidden", "-o", "a/b", `a\b`, "../x", "Work", "a b", "a\n", "é", "a\x00", "a:b", strings.Repeat("a", 65)} {
		if err := s.Save(Profile{Name: name, ConnectionString: text}, true); !errors.Is(err, ErrBadName) {
			t.Errorf("save %q: %v", name, err)
		}
		if _, err := s.Load(name); !errors.Is(err, ErrBadName) {
			t.Errorf("load %q: %v", name, err)
		}
		if _, err := s.Remove(name); !errors.Is(err, ErrBadName) {
			t.Errorf("remove %q: %v", name, err)
		}
	}
	if entries, err := os.ReadDir(s.Dir); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestDamaged(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	for _, content := range []string{"", "{}", "[]", `{"connectionString": c2VjcmV0}`, "c2VjcmV0"} {
		if err := os.WriteFile(s.Path("work"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load("work"); err == nil || strings.Contains(err.Error(), "c2V") || !strings.Contains(err.Error(), s.Path("work")) {
			t.Errorf("%q: %v", content, err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.Dir, fileCurrent), []byte("../../etc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if name, err := s.Current(); !errors.Is(err, ErrBadName) || name != "" {
		t.Errorf("%q, %v", name, err)
	}
	refused := errors.New("refused")
	s.Check = func(*os.File) error { return refused }
	if _, err := s.Load("work"); !errors.Is(err, refused) {
		t.Errorf("a file that was refused: %v", err)
	}
}

func TestParse(t *testing.T) {
	whole, err := credential.ParseConnectionString(text + ";CaFingerprint=sha256:" + strings.Repeat("0a", 32))
	if err != nil {
		t.Fatal(err)
	}
	rest, secret := whole.Split()
	if strings.Contains(rest, "c2V") {
		t.Errorf("%s still has the key", rest)
	}
	p := Profile{ConnectionString: rest, Keyring: "k"}
	if cs, err := p.Parse(secret); err != nil || cs != whole {
		t.Errorf("%v, %v, want %v", cs, err, whole)
	}
	if cs, err := p.Parse(""); err != nil || cs.Host() != "h" || cs.SharedAccessKeyName != "service" {
		t.Errorf("without the secret: %v, %v", cs, err)
	}
	if cs, err := (Profile{ConnectionString: whole.Reveal()}).Parse(""); err != nil || cs != whole {
		t.Errorf("%v, %v, want %v", cs, err, whole)
	}
}
