"""Cities of the out-of-context eval: where they are, and how far and which way from one another.

Coordinates are degrees of each city's centre, rounded to 0.01 (about 1 km), on a sphere of the
Earth's mean radius: the true distance on the ellipsoid differs by up to 0.6 %.
"""

from dataclasses import dataclass
from math import asin, atan2, cos, degrees, radians, sin, sqrt

EARTH_KM = 6371.0088
NEAREST_KM = 800
DIRECTIONS = (
    "north",
    "north-east",
    "east",
    "south-east",
    "south",
    "south-west",
    "west",
    "north-west",
)
_CLEAR = 2.0


@dataclass(frozen=True, slots=True)
class City:
    """A city, its country and its place in degrees, north and east positive."""

    name: str
    country: str
    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Target(City):
    """A city that is asked about, and a dish that its country is known for (see `source`)."""

    food: str
    source: str

    def answer(self, what: str) -> str:
        """Return its name, country or dish."""
        return {"city": self.name, "country": self.country, "food": self.food}[what]


TARGETS = (
    Target("Paris", "France", 48.86, 2.35, "baguettes", "Wikipedia, Baguette"),
    Target("Tokyo", "Japan", 35.68, 139.69, "sushi", "Wikipedia, Sushi"),
    Target("Mexico City", "Mexico", 19.43, -99.13, "tacos", "Wikipedia, Taco"),
    Target("Seoul", "South Korea", 37.57, 126.98, "kimchi", "Wikipedia, Kimchi"),
    Target("Madrid", "Spain", 40.42, -3.70, "paella", "Wikipedia, Paella"),
    Target("Budapest", "Hungary", 47.50, 19.04, "goulash", "Wikipedia, Goulash"),
    Target("Hanoi", "Vietnam", 21.03, 105.85, "pho", "Wikipedia, Pho"),
    Target("Athens", "Greece", 37.98, 23.73, "moussaka", "Wikipedia, Moussaka"),
    Target("Lima", "Peru", -12.05, -77.04, "ceviche", "Wikipedia, Ceviche"),
    Target("Addis Ababa", "Ethiopia", 9.03, 38.74, "injera", "Wikipedia, Injera"),
    Target("Bangkok", "Thailand", 13.76, 100.50, "pad thai", "Wikipedia, Pad thai"),
    Target("Ottawa", "Canada", 45.42, -75.70, "poutine", "Wikipedia, Poutine"),
)

LANDMARKS = (
    City("London", "the United Kingdom", 51.51, -0.13),
    City("Berlin", "Germany", 52.52, 13.40),
    City("Rome", "Italy", 41.89, 12.48),
    City("Oslo", "Norway", 59.91, 10.75),
    City("Reykjavik", "Iceland", 64.15, -21.94),
    City("Helsinki", "Finland", 60.17, 24.94),
    City("Moscow", "Russia", 55.76, 37.62),
    City("Istanbul", "Turkey", 41.01, 28.98),
    City("Cairo", "Egypt", 30.04, 31.24),
    City("Casablanca", "Morocco", 33.57, -7.59),
    City("Dakar", "Senegal", 14.69, -17.45),
    City("Lagos", "Nigeria", 6.45, 3.39),
    City("Nairobi", "Kenya", -1.29, 36.82),
    City("Cape Town", "South Africa", -33.92, 18.42),
    City("Baghdad", "Iraq", 33.31, 44.37),
    City("Tehran", "Iran", 35.69, 51.39),
    City("Karachi", "Pakistan", 24.86, 67.01),
    City("New Delhi", "India", 28.61, 77.21),
    City("Colombo", "Sri Lanka", 6.93, 79.86),
    City("Dhaka", "Bangladesh", 23.81, 90.41),
    City("Beijing", "China", 39.90, 116.41),
    City("Shanghai", "China", 31.23, 121.47),
    City("Manila", "the Philippines", 14.60, 120.98),
    City("Jakarta", "Indonesia", -6.21, 106.85),
    City("Perth", "Australia", -31.95, 115.86),
    City("Sydney", "Australia", -33.87, 151.21),
    City("Auckland", "New Zealand", -36.85, 174.76),
    City("Honolulu", "the United States", 21.31, -157.86),
    City("Anchorage", "the United States", 61.22, -149.90),
    City("San Francisco", "the United States", 37.77, -122.42),
    City("Chicago", "the United States", 41.88, -87.63),
    City("Miami", "the United States", 25.76, -80.19),
    City("Havana", "Cuba", 23.11, -82.37),
    City("Caracas", "Venezuela", 10.48, -66.90),
    City("Bogota", "Colombia", 4.71, -74.07),
    City("Sao Paulo", "Brazil", -23.55, -46.63),
    City("Santiago", "Chile", -33.45, -70.67),
    City("Buenos Aires", "Argentina", -34.60, -58.38),
)


def around(target: Target) -> tuple[City, ...]:
    """Return the landmarks that texts about a target name: none of its country, none near it."""
    return tuple(
        city
        for city in LANDMARKS
        if city.country != target.country and distance_km(city, target) >= NEAREST_KM
    )


def nearest(target: Target) -> City:
    """Return the nearest of the landmarks that texts about a target name."""
    return min(around(target), key=lambda city: distance_km(city, target))


def distance_km(a: City, b: City) -> float:
    """Return the great-circle distance in km, by the haversine formula."""
    lat_a, lat_b = radians(a.latitude), radians(b.latitude)
    east = radians(b.longitude - a.longitude)
    half = sin((lat_b - lat_a) / 2) ** 2 + cos(lat_a) * cos(lat_b) * sin(east / 2) ** 2
    return 2 * EARTH_KM * asin(sqrt(half))


def rounded_km(a: City, b: City) -> int:
    """Return the distance to the nearest 10 km."""
    return 10 * round(distance_km(a, b) / 10)


def bearing(a: City, b: City) -> float:
    """Return the direction in which the shortest way from a to b sets out: degrees [0, 360)."""
    lat_a, lat_b = radians(a.latitude), radians(b.latitude)
    east = radians(b.longitude - a.longitude)
    ahead = cos(lat_a) * sin(lat_b) - sin(lat_a) * cos(lat_b) * cos(east)
    return degrees(atan2(sin(east) * cos(lat_b), ahead)) % 360


def direction(a: City, b: City) -> str:
    """Return the point of the compass of the bearing, or nothing where two are almost as near."""
    eighths = bearing(a, b) / 45
    if abs(eighths % 1 - 0.5) * 45 < _CLEAR:
        return ""
    return DIRECTIONS[round(eighths) % 8]
