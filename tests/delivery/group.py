"""The consumer group: members, generations, and the partitions that they own, with cooperative rebalancing."""

from typing import Protocol


class Member(Protocol):
    """What the coordinator does to a member's client, without the worker's thread."""

    generation: int
    frozen: bool
    dead: bool
    rejoined: bool
    revoking: set[int]
    assigning: set[int]


class Group:
    """The coordinator. It checks the member and its generation; it never checks who owns a partition."""

    def __init__(self, partitions: int) -> None:
        self.generation = 0
        self.members: list[Member] = []
        self.owner: dict[int, Member | None] = dict.fromkeys(range(partitions))
        self.assignments = dict.fromkeys(range(partitions), 0)  # how often each has been assigned
        self._target: dict[int, Member] = {}

    def accepts(self, member: Member, generation: int) -> bool:
        return generation == self.generation and member in self.members

    def rebalance(self, joining: list[Member], choice: int) -> None:
        """Add who joins, remove who doesn't answer, and assign each partition to the member that ``choice`` says."""
        for member in joining:
            if member not in self.members:
                self.members.append(member)
                member.rejoined = True
                member.revoking, member.assigning = set(), set()
        answering = [member for member in self.members if not member.frozen and not member.dead]
        for partition in self.owner:
            if answering:
                self._target[partition] = answering[(choice >> 2 * partition) % 4 % len(answering)]
        self._next_generation()

    def revoked(self, member: Member) -> None:
        """Take what a member has revoked, and start the next generation."""
        for partition in member.revoking:
            self.owner[partition] = None
        member.revoking = set()
        self._next_generation()

    def _next_generation(self) -> None:
        gone = [member for member in self.members if member.frozen or member.dead]
        self.members = [member for member in self.members if member not in gone]
        self.generation += 1
        for member in self.members:
            member.generation = self.generation
        for partition, owner in self.owner.items():
            target = self._target.get(partition)
            if target not in self.members:
                target = self.members[0] if self.members else None
            if owner is None or owner in gone:
                self._assign(partition, target)
            elif owner is not target:
                if partition in owner.assigning:  # it has not started to read it
                    owner.assigning.discard(partition)
                    self._assign(partition, target)
                else:
                    owner.revoking.add(partition)

    def _assign(self, partition: int, target: Member | None) -> None:
        self.owner[partition] = target
        self.assignments[partition] += 1
        if target is not None:
            target.assigning.add(partition)
