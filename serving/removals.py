"""Items that ingest has told to be gone, against looks at PostgreSQL that may have begun before: which of the two is newer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from profiles.item_news import ItemNews
from serving import limits
from serving.catalogue import ItemRow
from serving.catalogue_file import Origin


def is_in(pg_snapshot: str, xid: int) -> bool:
    """Whether the snapshot "xmin:xmax:those in progress" shows what the transaction did, which has been committed."""
    first, end, running = pg_snapshot.split(":")
    return xid < int(first) or (xid < int(end) and str(xid) not in running.split(","))


class Removals:
    """What is told while a look is under way, and what that look has put into the view already.

    Three states are compared by their transactions: the view's, the look's, and the removal. A removal is taken at once unless
    the view knows better: it shows the removal, or what became of the item after it. A row of the look is taken unless a
    removal is told that the look does not show. Of what was told before a look began nothing must be remembered: it was
    committed before it was told, so the look shows it.
    """

    def __init__(self) -> None:
        self._look: Origin | None = None
        self._told: list[ItemNews] = []
        self._told_count = 0
        self._barred: set[int] = set()  # keys that the look has in a state from before their removal
        self._put: set[int] | None = None  # keys that the look has put into the view that answers

    def begin(self) -> None:
        """A look begins. What Postgres will show it, is not known yet."""
        self.end()

    def end(self) -> None:
        """The look has ended, well or not."""
        self._look, self._told, self._told_count = None, [], 0
        self._barred, self._put = set(), None

    def see(self, look: Origin, follows_on: bool) -> None:
        """What the look shows; whether it changes the view that answers, or makes one beside it."""
        self._look, self._put = look, set() if follows_on else None
        for news in self._told:
            self._bar(news, look)

    def rows(self, rows: Sequence[ItemRow]) -> Sequence[ItemRow]:
        """Those rows of the look that no removal is newer than; they go into the view now."""
        if self._barred:
            rows = [row for row in rows if row.key not in self._barred]
        if self._put is not None:
            self._put.update(row.key for row in rows)
        return rows

    def take(self, news: ItemNews, view: Origin | None) -> Iterable[int]:
        """The keys to be taken out of the view, which is exact for `view`, but for what the look has put into it."""
        look = self._look
        known = look or view
        if known is None or news.database != known.database:
            return ()
        # Beyond, a look may bring an item back, until the next one half a second later.
        if self._told_count + len(news.gone) <= limits.REMOVED_COUNT_MAX:
            self._told.append(news)
            self._told_count += len(news.gone)
            if look is not None:
                self._bar(news, look)
        if view is not None and view.database == news.database and is_in(view.pg_snapshot, news.xid):
            return ()
        if look is None or not is_in(look.pg_snapshot, news.xid):
            return news.gone
        if self._put is not None:
            return [key for key in news.gone if key not in self._put]
        return () if view is None else news.gone  # a first look is not answered from before it has ended

    def _bar(self, news: ItemNews, look: Origin) -> None:
        if not is_in(look.pg_snapshot, news.xid):
            self._barred.update(news.gone)
