"""Faults of the roads between one process and one server."""

from collections.abc import Callable, Mapping

from tests.chaos.hub_faults import PASSING
from tests.chaos.installation import SERVERS
from tests.chaos.scene import EVERYWHERE, Scene


def reset_connections(scene: Scene) -> str:
    """Every connection of a road breaks."""
    road = _road(scene)
    scene.installation.network.reset(road)
    return road


def cut_road(scene: Scene) -> str:
    """Nothing passes and every try is refused."""
    road = _road(scene)
    scene.installation.network.cut(road)
    return _heal_later(scene, road, 0.5, 8.0)


def black_hole(scene: Scene) -> str:
    """Nothing passes and nobody is told."""
    road = _road(scene)
    scene.installation.network.hold(road)
    return _heal_later(scene, road, 0.5, 8.0)


def slow_road(scene: Scene) -> str:
    """Everything takes longer."""
    road = _road(scene)
    scene.installation.network.slow_down(road, scene.chance.uniform(0.02, 0.2))
    return _heal_later(scene, road, 1.0, 6.0)


def _road(scene: Scene) -> str:
    # A worker loses more by its roads than an API does.
    services = [scene.worker(), scene.worker(), scene.chance.choice(scene.installation.apis)]
    server = scene.chance.choice(SERVERS)
    if server == "hub":
        scene.excuses[EVERYWHERE].update(PASSING)
    return f"{scene.chance.choice(services).name}-{server}"


def _heal_later(scene: Scene, road: str, least: float, most: float) -> str:
    seconds = scene.chance.uniform(least, most)
    scene.agenda.later(seconds, lambda: scene.installation.network.heal(road))
    return f"{road} for {seconds:.1f} s"


FAULTS: Mapping[str, tuple[Callable[[Scene], str], int]] = {
    "reset_connections": (reset_connections, 6),
    "cut_road": (cut_road, 6),
    "black_hole": (black_hole, 5),
    "slow_road": (slow_road, 4),
}
