"""What was done, as models read it: rows 1..A of the store's action names, 0 = padding or unknown."""

import torch

FORGOTTEN_SHARE = 0.1


def forget_some(actions: torch.Tensor) -> torch.Tensor:
    """Return `[...]` action rows with a tenth of them unknown; for training.

    A session may name items without saying what was done with them. In training data every event may have its action,
    so a model that never had to do without would meet something new at serving.
    """
    kept = torch.rand(actions.shape, device=actions.device) >= FORGOTTEN_SHARE
    return torch.where(kept, actions, 0)
