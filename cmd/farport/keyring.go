package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/profile"
)

// keyringService is what farport's secrets are filed under in the system's keyring.
const keyringService = "farport"

// keyringWait bounds a call to the keyring: somebody may have to unlock it.
const keyringWait = time.Minute

// errKeyringSlow is for a keyring that has not answered.
var errKeyringSlow = fmt.Errorf("no answer within %s", keyringWait)

// newKeyringEntry is a name in the keyring that nothing else has. An entry is never
// overwritten: a profile's file names the one that goes with it, old or new.
func newKeyringEntry(hub string) string {
	return hub + "-" + strings.ToLower(rand.Text()[:10])
}

// askKeyring calls the keyring, which may take its time.
func askKeyring(call func() error) error {
	answer := make(chan error, 1)
	go func() { answer <- call() }() // ends with the call, or the process
	select {
	case err := <-answer:
		return err
	case <-time.After(keyringWait):
		return errKeyringSlow
	}
}

func writeKeyring(p profile.Profile, secret credential.Secret) error {
	err := askKeyring(func() error { return keyring.Set(keyringService, p.Keyring, secret.Reveal()) })
	return keyringError("keep", p, err)
}

func readKeyring(p profile.Profile) (credential.Secret, error) {
	var text string
	err := askKeyring(func() (err error) {
		text, err = keyring.Get(keyringService, p.Keyring)
		return err
	})
	if err != nil {
		return "", keyringError("read", p, err)
	}
	return credential.Secret(text), nil
}

// removeKeyring is content when there is nothing to remove.
func removeKeyring(p profile.Profile) error {
	if p.Keyring == "" {
		return nil
	}
	err := askKeyring(func() error { return keyring.Delete(keyringService, p.Keyring) })
	if errors.Is(err, keyring.ErrNotFound) {
		return nil
	}
	return keyringError("remove", p, err)
}

// keyringError says what was to be done, and why it could not be.
func keyringError(what string, p profile.Profile, err error) error {
	if err == nil {
		return nil
	}
	hint := "no keyring answers here: on Linux it takes a session with gnome-keyring, KWallet or KeePassXC"
	switch {
	case errors.Is(err, keyring.ErrNotFound):
		hint = fmt.Sprintf("store it anew with \"farport hub add %s --force\"", p.Name)
	case what == "keep":
		hint += "; without --keyring the key is kept in a file of mode 0600"
	case what == "remove":
		hint += "; --force removes the hub and leaves its key in the keyring"
	}
	return &codedError{exitFailed, hint, fmt.Errorf("%s the key of hub %s in the system's keyring: %w", what, quote(p.Name), err)}
}
