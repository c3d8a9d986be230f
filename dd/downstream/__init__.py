"""What a synthetic set is good for beside training one network: choosing an architecture, remembering old classes."""

from dd.downstream.continual import Continual, continual
from dd.downstream.ranking import Ranking, architectures, rank_architectures

__all__ = ["Continual", "Ranking", "architectures", "continual", "rank_architectures"]
