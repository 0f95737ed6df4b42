package replicas

import (
	"maps"
	"testing"
)

// all is one ability for every stream.
func all(a Ability) Abilities {
	abilities := Abilities{}
	for p := range int32(8) {
		abilities[p] = a
	}
	return abilities
}

// A process that could not carry a stream gets none, and keeps what it has.
func TestUnable(t *testing.T) {
	for _, ability := range []Ability{Away, Unable} {
		i := newInstallation(t, 2, 8)
		owner := i.join()
		owner.abilities = all(ability)
		broken, good := i.join(), i.join()
		broken.abilities = all(ability)
		i.rebalance()
		if i.carried(owner) != 2 {
			t.Fatalf("the owner carries %d of 2", i.carried(owner))
		}
		i.leave(owner)
		if i.carried(good) != 2 {
			t.Fatalf("carried: %v", i.owner)
		}
	}
}

// Ability is by stream: what a process could not carry goes to another, all else to it too.
func TestUnableForOne(t *testing.T) {
	i := newInstallation(t, 2, 8)
	owner := i.join()
	a, b := i.join(), i.join()
	a.abilities, b.abilities = Abilities{0: Away}, Abilities{1: Unable}
	i.leave(owner)
	if want := map[string]string{"stream-0": b.name, "stream-1": a.name}; !maps.Equal(i.owner, want) {
		t.Errorf("owners %v, want %v", i.owner, want)
	}
}

// Nobody is able: a stream goes to one that a server is merely away from, and to none that is
// refused, until that has changed.
func TestNobodyIsAble(t *testing.T) {
	i := newInstallation(t, 2, 8)
	owner := i.join()
	refused, away := i.join(), i.join()
	refused.abilities, away.abilities = all(Unable), all(Away)
	i.leave(owner)
	if i.carried(away) != 2 {
		t.Fatalf("carried: %v", i.owner)
	}
	i.leave(away)
	if i.owner["stream-0"] != "" {
		t.Fatalf("carried: %v", i.owner)
	}
	refused.abilities = nil
	i.rebalance()
	if i.carried(refused) != 2 {
		t.Fatalf("carried: %v", i.owner)
	}
}
