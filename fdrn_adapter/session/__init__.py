"""Interactive segmentation of images, object by object: what an annotation tool needs."""

from fdrn_adapter.session.interactive import InteractiveSession, SessionClick
from fdrn_adapter.session.pipeline import stock_predictor
from fdrn_adapter.session.predictor import recycling_predictor_for

__all__ = ["InteractiveSession", "SessionClick", "recycling_predictor_for", "stock_predictor"]
