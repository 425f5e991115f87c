"""Sparse codes of query images in the images of a track, for many (image, track) problems at once.

Each problem is a Lasso: minimise ``½ |q - γ L|² + α |γ|₁`` over γ. With the Gram matrix ``G = L Lᵀ`` and the
products ``c = L q`` its size is that of the track, not that of the LR. It is solved by *block pivoting*: were it known
which codes are not zero, and their signs, they would be the solution of a linear system. So a guess is solved, all
codes of the wrong sign become zero, the zeros that would rather not be zero get a sign, and the system is solved
again. Source: Kim and Park, Fast Active-set-type Algorithms for L1-regularized Linear Regression, AISTATS 2010.

Images that stand in for each other, such as those of one video, make systems nearly singular, and pivoting may go in
circles. Then the problem gets a *proximal* term ``½ δ |γ - γ₀|²``, as large as it takes for pivoting to settle; what
it settles at is the next centre γ₀, and δ falls again. Source: Rockafellar, Monotone Operators and the Proximal Point
Algorithm, SIAM J. Control and Optimization 14, 1976. Problems leave when their duality gap is small enough.

Arrays are laid out with the track's images first and the problems last. Everything is float64: the gap of 1e-6 could
not be told in float32.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch.nn.functional import pad

from vreid_cli.ranking.aggregation import runs

#: Relative duality gap at which a problem is solved (``docs/definitions.md#rscr``).
GAP = 1e-6
#: The gap that is aimed at, and the rounding of the gap in parts of |q|²; where that is more, GAP will do.
_FINE_GAP, _ROUNDING = 1e-9, 1e-15
#: Rounds after which a problem is given up; none in any test or benchmark needed a quarter of them.
_MOST_ROUNDS = 1000
#: δ in parts of the Gram's largest entry: at first, hardly more than rounding; once pivoting did not settle; and what
#: it is multiplied by each time that it does, or does not. All by measurement, like the next two.
_FIRST, _RAISED, _FALL, _RISE = 1e-12, 1e-3, 0.1, 10.0
#: Rounds that pivoting may take to lower the number of wrong codes.
_PATIENCE = 2
#: From here on in parts of alpha the slope of a zero calls for a code; less is rounding.
_ABOVE = 1 + 1e-9
#: Codes that may get a sign at a time, and how many more for each that has one. Of images that are alike few are needed
#: in the end, and systems with all of them would be large and nearly singular.
_NEW, _NEW_EACH = 16, 0.5
#: Up to this many images systems are solved, and Grams applied, one scalar at a time over all problems; for larger ones
#: LAPACK, a matrix at a time, is faster. ``tests/benchmarks/rscr.py`` compares the two.
_FEW = 16
#: Numbers in the systems that are solved at a time.
_GATHERED = 1 << 20


@dataclass(frozen=True)
class SparseCodes:
    """Solutions of the problems of t tracks and q query images.

    Attributes:
        codes: (n, t, q) float64, the γ of each track and query image.
        squared_residuals: (t, q) float64, ``|q - γ L|²`` by the Gram form; loses digits where it is small.
        unsolved: How many problems were given up before their gap was small enough.
    """

    codes: torch.Tensor
    squared_residuals: torch.Tensor
    unsolved: int


@dataclass
class _Problems:
    """Problems that are not solved yet, and how far each is; all arrays (…, m).

    Attributes:
        position: Which of the problems each is.
        track: Its track, rising.
        products: (n, m) ``L q``.
        squares: ``|q|²``.
        largest: The largest entry of ``G``.
        signs: (n, m) signs of the codes, as they are guessed.
        codes: (n, m) codes that follow from the guess.
        slope: (n, m) ``c - G γ`` of these codes.
        centre: (n, m) centre γ₀ of the proximal term.
        weight: Its weight δ.
        fewest: Wrong codes in the best round with this term.
        patience: Rounds that are left to have fewer.
    """

    position: torch.Tensor
    track: torch.Tensor
    products: torch.Tensor
    squares: torch.Tensor
    largest: torch.Tensor
    signs: torch.Tensor
    codes: torch.Tensor
    slope: torch.Tensor
    centre: torch.Tensor
    weight: torch.Tensor
    fewest: torch.Tensor
    patience: torch.Tensor

    def select(self, which: torch.Tensor) -> _Problems:
        """The problems at these positions alone."""
        return _Problems(*(_select(getattr(self, field.name), which) for field in fields(self)))


def solve_codes(products: torch.Tensor, grams: torch.Tensor, squares: torch.Tensor, *, alpha: float) -> SparseCodes:
    """Codes of q query images in each of t tracks of n images.

    Args:
        products: (n, t, q) float64, ``L q`` of each track and query image.
        grams: (t, n, n) float64, ``L Lᵀ`` of each track.
        squares: (q,) float64, ``|q|²`` of each query image.
        alpha: Weight of the codes' absolute values, above 0.

    Returns:
        The codes, accurate to a relative duality gap of :data:`GAP`.

    Examples:
        >>> query, track = torch.tensor([[3.0, 4.0]]).double(), torch.tensor([[1.0, 0.0]]).double()
        >>> products, grams = (track @ query.T)[:, None], (track @ track.T)[None]
        >>> solved = solve_codes(products, grams, query.square().sum(dim=1), alpha=1.0)
        >>> solved.codes.tolist(), solved.squared_residuals.tolist()
        ([[[2.0]]], [[17.0]])
    """
    grams = _arrange(grams)
    left = _begin(products, grams, squares)
    codes, residuals = torch.zeros_like(left.products), torch.zeros_like(left.squares)
    for _ in range(_MOST_ROUNDS):
        left.codes = _solve_signed(left, grams, alpha=alpha)
        left.slope = left.products - _apply(grams, left.track, left.codes)
        squared, solved = _judge(left, alpha=alpha)
        codes[:, left.position], residuals[left.position] = left.codes, squared
        left = left.select((~solved).nonzero().squeeze(1))
        if not len(left.position):
            break
        _pivot(left, alpha=alpha)
    shape = products.shape[1:]
    return SparseCodes(codes.unflatten(1, shape), residuals.clamp_(min=0).unflatten(0, shape), len(left.position))


def _arrange(grams: torch.Tensor) -> torch.Tensor:
    """(t, n, n) Grams as (n, n, t), or where images are many (n + 1, n + 1, t), with an image of zeros at the end."""
    if grams.shape[1] <= _FEW:
        return grams.movedim(0, 2).contiguous()
    return pad(grams, (0, 1, 0, 1)).movedim(0, 2)


def _begin(products: torch.Tensor, grams: torch.Tensor, squares: torch.Tensor) -> _Problems:
    """All problems, with a guess at the signs: those of least squares where images are few, else none at all."""
    count, tracks, queries = products.shape
    track = torch.arange(tracks, device=products.device).repeat_interleave(queries)
    largest = grams.diagonal(dim1=0, dim2=1).amax(dim=1)[track]
    problems = _Problems(
        position=torch.arange(len(track), device=track.device),
        track=track,
        products=products.flatten(1),
        squares=squares.repeat(tracks),
        largest=largest,
        signs=products.new_ones(count, len(track)),
        codes=products.new_zeros(count, len(track)),
        slope=products.flatten(1),
        centre=products.new_zeros(count, len(track)),
        weight=_FIRST * largest,
        fewest=torch.full_like(track, count + 1),
        patience=torch.full_like(track, _PATIENCE),
    )
    problems.signs = _solve_signed(problems, grams, alpha=0).sign() if count <= _FEW else problems.codes
    return problems


def _select(values: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """The (…, m) values of these problems; faster than indexing."""
    return values.gather(-1, which.expand(*values.shape[:-1], -1))


def _judge(problems: _Problems, *, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared residual of each problem, and whether its duality gap is small enough.

    The dual point is the residual, scaled down until no image correlates with it by more than alpha.
    """
    codes = problems.codes
    size = codes.abs().sum(dim=0)
    along = problems.squares - (codes * problems.products).sum(dim=0)
    squared = along - (codes * problems.slope).sum(dim=0)
    scale = (alpha / problems.slope.abs().amax(dim=0)).clamp_(max=1)
    primal = squared / 2 + alpha * size
    dual = scale * along - scale.square() * squared / 2
    # The gap bounds the error of the residual only as its root, so it is made smaller where rounding allows.
    rounding = _ROUNDING * (problems.squares + problems.largest * size.square())
    floor = torch.minimum(GAP * primal, rounding)
    # A gap below 0 is rounding, which may be large as long as the codes are.
    return squared, (primal - dual).abs() <= torch.maximum(floor, _FINE_GAP * primal)


def _pivot(problems: _Problems, *, alpha: float) -> None:
    """Guess the signs again, from the codes that the last guess gave; where it holds, lower the proximal term."""
    codes, signs, weight = problems.codes, problems.signs, problems.weight
    absent = signs == 0
    slope = torch.where(absent, problems.slope + weight * problems.centre, 0.0)
    wrong = (slope.abs() > _ABOVE * alpha) | (codes * signs < 0)
    number = wrong.sum(dim=0)
    settled = number == 0
    problems.patience = torch.where(number < problems.fewest, _PATIENCE, problems.patience - 1)
    lost = problems.patience < 0
    if len(signs) > _NEW:
        wrong &= ~absent | _strongest(slope.abs(), taken=(~absent).sum(dim=0))
    # What is wrong becomes zero, and a zero that is wrong follows its slope.
    signs = torch.where(wrong, slope.sign(), signs)
    problems.centre = torch.where(settled, codes, problems.centre)
    problems.signs = torch.where(lost, problems.centre.sign(), signs)
    lower = torch.maximum(_FALL * weight, _FIRST * problems.largest)
    higher = torch.maximum(_RISE * weight, _RAISED * problems.largest)
    problems.weight = torch.where(settled, lower, torch.where(lost, higher, weight))
    begins = settled | lost
    problems.fewest = torch.where(begins, len(signs) + 1, torch.minimum(number, problems.fewest))
    problems.patience = torch.where(begins, _PATIENCE, problems.patience)


def _strongest(slope: torch.Tensor, *, taken: torch.Tensor) -> torch.Tensor:
    """Which of the (n, m) slopes are the largest, as many as may get a sign where so many have one."""
    most = (_NEW + _NEW_EACH * taken).to(torch.int64).clamp_(max=len(slope))
    return slope >= slope.sort(dim=0, descending=True).values.gather(0, most[None] - 1)


def _apply(grams: torch.Tensor, track: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """(n, m) ``G γ`` of problems in these tracks."""
    if len(codes) > _FEW:
        counts = torch.bincount(track, minlength=grams.shape[2]).tolist()
        of_each = zip(grams[:-1, :-1].unbind(dim=2), codes.split(counts, dim=1), strict=True)
        return torch.cat([gram @ some for gram, some in of_each], dim=1)
    applied = _select(grams[0], track) * codes[0]
    for j in range(1, len(codes)):
        applied.addcmul_(_select(grams[j], track), codes[j])
    return applied


def _solve_signed(problems: _Problems, grams: torch.Tensor, *, alpha: float) -> torch.Tensor:
    """(n, m) codes that follow from the signs that are guessed: solutions of the systems of the images with a sign."""
    right = problems.products + problems.weight * problems.centre - alpha * problems.signs
    solve = _factor if len(right) > _FEW else _eliminate
    return solve(problems, grams, right)


def _factor(problems: _Problems, grams: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Solutions of the systems of the images that have a sign, by LAPACK; the others are 0."""
    count, lengths = len(right), problems.signs.count_nonzero(dim=0)
    # Systems are filled up to one size with the image of zeros.
    owner, slot = runs(lengths)
    images = lengths.new_full((len(lengths), int(lengths.max())), count)
    images[owner, slot] = problems.signs.T.nonzero()[:, 1]
    right = pad(right.T, (0, 1))
    solution = torch.zeros_like(right)
    # Those of about the same size together.
    order = lengths.argsort()
    pieces = torch.unique_consecutive(lengths[order].square().cumsum(0) // _GATHERED, return_counts=True)[1].tolist()
    for some in order.split(pieces):
        here = images[some, : int(lengths[some[-1]])]
        systems = grams[here[:, :, None], here[:, None, :], problems.track[some, None, None]]
        systems.diagonal(dim1=1, dim2=2).add_((here == count) + problems.weight[some, None])
        factor, failed = torch.linalg.cholesky_ex(systems)
        forward = torch.linalg.solve_triangular(factor, right[some].gather(1, here).unsqueeze(2), upper=False)
        found = torch.linalg.solve_triangular(factor.mT, forward, upper=True).squeeze(2)
        solution[some[:, None], here] = torch.where((failed == 0)[:, None], found, 0.0)
    return solution[:, :count].T


def _eliminate(problems: _Problems, grams: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The same by LDLᵀ elimination, a scalar at a time over all problems."""
    count, active = len(right), problems.signs.abs()
    right = active * right
    lower: list[list[torch.Tensor]] = []
    pivots: list[torch.Tensor] = []
    forward: list[torch.Tensor] = []
    for i in range(count):
        row = _select(grams[i, : i + 1], problems.track)
        scaled: list[torch.Tensor] = []
        for j in range(i):
            entry = row[j] * active[i] * active[j]
            for k in range(j):
                entry.addcmul_(scaled[k], lower[j][k], value=-1)
            scaled.append(entry)
        lower.append([entry / pivots[j] for j, entry in enumerate(scaled)])
        pivot = torch.where(active[i] > 0, row[i] + problems.weight, 1.0)
        value = right[i].clone()
        for j in range(i):
            pivot.addcmul_(scaled[j], lower[i][j], value=-1)
            value.addcmul_(lower[i][j], forward[j], value=-1)
        pivots.append(pivot)
        forward.append(value)
    solution = torch.empty_like(right)
    for i in reversed(range(count)):
        value = forward[i] / pivots[i]
        for j in range(i + 1, count):
            value.addcmul_(lower[j][i], solution[j], value=-1)
        solution[i] = value
    return solution
