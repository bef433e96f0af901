"""Labelled arrays: into increasing axes and back to where they were."""

import sys

import numpy as np
import pytest

from structops.exceptions import ShapeMismatchError
from structops.interop.xarray import GridLayout, from_dataarray, to_dataarray

xr = pytest.importorskip("xarray", reason="xarray is not installed: structops[xarray]")

TIME = np.array(["2020-01-01", "2020-01-05", "2020-01-06"], dtype="datetime64[ns]")
LATITUDE = np.array([60.0, 50.0, 35.0, 30.0])


def temperature():
    """Time x latitude (descending) x station (labels), with further coordinates."""
    values = np.arange(24.0).reshape(3, 4, 2)
    values[1, 2, 0] = np.nan
    return xr.DataArray(
        values,
        dims=("time", "lat", "station"),
        coords={
            "time": ("time", TIME, {"long_name": "time of measurement"}),
            "lat": ("lat", LATITUDE, {"units": "degrees_north"}),
            "station": ["north", "east"],
            "country": ("station", ["NO", "SE"]),
            "area": (("lat", "station"), np.arange(8.0).reshape(4, 2)),
            "season": ("time", ["winter"] * 3),
            "height": 2.0,
        },
        name="t2m",
        attrs={"units": "K"},
    )


def test_axes_increase_and_values_follow():
    array = temperature()
    (time, lat, station), values = from_dataarray(array)
    np.testing.assert_array_equal(time, TIME)
    assert time.dtype.kind == "M"
    np.testing.assert_array_equal(lat, LATITUDE[::-1])
    np.testing.assert_array_equal(station, ["north", "east"])
    np.testing.assert_array_equal(values, array.values[:, ::-1])
    assert np.isnan(values[1, 1, 0])


def test_round_trip_is_the_identity():
    array = temperature()
    layout = GridLayout.of(array)
    back = layout.restore(layout.arrange(array), name="t2m", attrs=layout.attrs)
    xr.testing.assert_identical(back, array)
    xr.testing.assert_identical(
        to_dataarray(from_dataarray(array)[1], array, name="t2m"), array.drop_attrs(deep=False)
    )
    assert (layout.name, layout.shape, layout.dims) == ("t2m", (3, 4, 2), array.dims)
    assert back.lat.attrs == {"units": "degrees_north"}


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_coordinates(seed):
    rng = np.random.default_rng(seed)
    x, t = rng.permutation(7.0 * np.arange(6)), rng.permutation(5)
    array = xr.DataArray(rng.normal(size=(6, 5)), coords={"x": x, "t": t}, dims=("x", "t"))
    (x_sorted, t_sorted), values = from_dataarray(array)
    np.testing.assert_array_equal(x_sorted, np.sort(x))
    np.testing.assert_array_equal(t_sorted, np.arange(5))
    for i, j in [(0, 0), (2, 3), (5, 1)]:
        assert values[i, j] == array.sel(x=x_sorted[i], t=t_sorted[j])
    xr.testing.assert_identical(to_dataarray(values, array), array)


def test_dimensions_without_coordinates_count():
    array = xr.DataArray(np.ones((2, 3)), dims=("row", "x"), coords={"x": [3.0, 1.0, 2.0]})
    (row, x), _ = from_dataarray(array)
    np.testing.assert_array_equal(row, [0, 1])
    np.testing.assert_array_equal(x, [1.0, 2.0, 3.0])
    back = to_dataarray(np.ones((2, 3)), array)
    xr.testing.assert_identical(back, array)
    assert "row" not in back.coords
    moved = to_dataarray(np.ones((1, 3)), array, axes={"row": [0.5]})
    np.testing.assert_array_equal(moved.row, [0.5])
    unmoved = to_dataarray(np.ones((2, 3)), array, axes={"row": [0, 1]})
    assert "row" not in unmoved.coords


def test_new_axes_keep_what_is_still_valid():
    layout = GridLayout.of(temperature())
    target = layout.on({"lat": [40.0, 32.5, 45.0]})
    np.testing.assert_array_equal(target.axes[1], [32.5, 40.0, 45.0])
    values = np.arange(18.0).reshape(3, 3, 2)
    result = target.restore(values, "mean")
    assert result.name == "mean" and result.dims == ("time", "lat", "station")
    np.testing.assert_array_equal(result.lat, [40.0, 32.5, 45.0])
    np.testing.assert_array_equal(result.sel(lat=32.5), values[:, 0])
    np.testing.assert_array_equal(result.sel(lat=[40.0, 45.0]), values[:, 1:])
    assert result.lat.attrs == {"units": "degrees_north"} and result.attrs == {}
    assert set(result.coords) == {"time", "lat", "station", "country", "season", "height"}
    # the original layout is unchanged
    np.testing.assert_array_equal(layout.axes[1], LATITUDE[::-1])
    assert "area" in layout.coordinates.coords


def test_the_same_axes_again_change_nothing():
    array = temperature()
    layout = GridLayout.of(array)
    for same in (array, array.to_dataset(), dict(array.indexes), (TIME, LATITUDE, None), {}):
        target = layout.on(same)
        assert set(target.coordinates.coords) == set(array.coords)
        np.testing.assert_array_equal(target.axes[1], LATITUDE[::-1])


def test_axes_of_another_array():
    array = temperature()
    coordinates = {"lat": [10.0, 5.0], "lon": [0.0]}
    other = xr.DataArray(np.zeros((2, 1)), coords=coordinates, dims=("lat", "lon"))
    target = GridLayout.of(array).on(other)
    assert target.shape == (3, 2, 2)
    np.testing.assert_array_equal(target.axes[1], [5.0, 10.0])
    later = GridLayout.of(array).on((TIME + np.timedelta64(9, "D"), None, None))
    np.testing.assert_array_equal(later.axes[0], TIME + np.timedelta64(9, "D"))
    assert later.restore(np.zeros((3, 4, 2))).time.attrs == {"long_name": "time of measurement"}
    assert "season" not in later.coordinates.coords and "area" in later.coordinates.coords
    one = GridLayout.of(array).on({"time": TIME[0]})
    assert one.shape == (1, 4, 2)


def test_samples_have_a_dimension_in_front():
    array = temperature()
    layout = GridLayout.of(array)
    draws = np.random.default_rng(0).normal(size=(5, 3, 4, 2))
    result = layout.restore(draws, leading=("sample",))
    assert result.dims == ("sample", "time", "lat", "station")
    np.testing.assert_array_equal(result.values, draws[:, :, ::-1])


def test_companions_of_the_data_are_aligned():
    array = temperature()
    layout = GridLayout.of(array)
    mask = array.notnull().transpose("station", "lat", "time")
    np.testing.assert_array_equal(layout.arrange(mask), ~np.isnan(layout.arrange(array)))
    plain = np.arange(24).reshape(3, 4, 2)
    np.testing.assert_array_equal(layout.arrange(plain), plain[:, ::-1])
    with pytest.raises(ValueError, match="different coordinates along 'lat': 4 values from 60"):
        layout.arrange(array.isel(lat=slice(None, None, -1)))
    with pytest.raises(ShapeMismatchError, match=r"dimensions \['time', 'lat', 'station'\]"):
        layout.arrange(array.isel(time=0))
    with pytest.raises(ShapeMismatchError, match=r"\(time, lat, station\) has shape \(3, 4, 2\)"):
        layout.arrange(plain[1:])


def test_coordinates_without_an_order_stay():
    missing = np.array([3.0, np.nan, 1.0])
    dates = np.array(["2020-01-02", "NaT", "2020-01-01"], dtype="datetime64[ns]")
    for axis in (missing, dates, np.array(["b", "a", "c"]), np.array([2, "x", 1], dtype=object)):
        array = xr.DataArray(np.arange(3.0), coords={"x": axis}, dims="x")
        (x,), values = from_dataarray(array)
        np.testing.assert_array_equal(x, axis)
        np.testing.assert_array_equal(values, [0.0, 1.0, 2.0])


def test_refusals():
    array = temperature()
    layout = GridLayout.of(array)
    with pytest.raises(TypeError, match="found a Dataset; pick one of its variables: t2m"):
        from_dataarray(array.to_dataset())
    with pytest.raises(TypeError, match="must be an xarray.DataArray, found ndarray"):
        from_dataarray(array.values)
    with pytest.raises(ValueError, match="no dimension"):
        from_dataarray(xr.DataArray(1.0))
    with pytest.raises(ValueError, match="found an axis for 'lon'"):
        layout.on({"lon": [1.0]})
    with pytest.raises(ShapeMismatchError, match="3 dimensions .*, found 2 axes"):
        layout.on((TIME, LATITUDE))
    with pytest.raises(ShapeMismatchError, match=r"axis of 'lat' .* found shape \(2, 2\)"):
        layout.on({"lat": np.zeros((2, 2))})
    with pytest.raises(ShapeMismatchError, match=r"axis of 'lat' .* found shape \(0,\)"):
        layout.on({"lat": []})
    with pytest.raises(ShapeMismatchError, match=r"found values of shape \(3, 4\)"):
        layout.restore(np.zeros((3, 4)))
    with pytest.raises(ShapeMismatchError, match=r"shape \(3, 4, 2\) with 1 dimension"):
        layout.restore(np.zeros((3, 4, 2)), leading=("sample",))


def test_without_xarray(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match=r"structops\[xarray\]"):
        from_dataarray(np.zeros(3))


def test_results_may_be_changed():
    layout = GridLayout.of(temperature())
    result = layout.restore(np.zeros((3, 4, 2)))
    result.lat.attrs["units"] = "radians"
    result["height"] = 3.0
    again = layout.restore(np.zeros((3, 4, 2)))
    assert again.lat.attrs == {"units": "degrees_north"} and again.height == 2.0


def test_stacked_dimensions_return():
    stacked = temperature().drop_vars(["area", "country"]).stack(place=("lat", "station"))
    back = to_dataarray(stacked.values, stacked, name="t2m")
    xr.testing.assert_identical(back, stacked.drop_attrs(deep=False))
    xr.testing.assert_identical(back.unstack("place"), stacked.drop_attrs(deep=False).unstack())


def test_results_do_not_hold_the_data():
    layout = GridLayout.of(temperature())
    assert not layout.coordinates.data_vars
    assert "K" not in repr(layout) and "lat" in repr(layout)
