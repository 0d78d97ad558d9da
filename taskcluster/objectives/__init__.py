"""What training asks of a model: the loss, what may be seen, where gradients flow, auxiliary losses."""
